//! The same runner on librdkafka's in-process cluster, which has no transactions: what
//! `coach demo` runs on.

use std::time::{Duration, Instant};

use harness::eventually;
use pipeline::{Delivery, Kafka};
use rdkafka::mocking::MockCluster;

use crate::scene::{DEADLINE, PARTITIONS, Scene, calls, topic_names, utterance};
use crate::stages::{Counter, Keeper};

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_sinks_run_on_the_in_process_cluster_and_go_on_after_a_stop() {
    let cluster = MockCluster::new(1).unwrap();
    let kafka = Kafka {
        bootstrap: cluster.bootstrap_servers(),
        delivery: Delivery::AtLeastOnce,
        ..Kafka::default()
    };
    for name in topic_names(&kafka) {
        cluster.create_topic(&name, PARTITIONS, 1).unwrap();
    }
    let scene = Scene::on(kafka).await;
    let keeper = Keeper::default();
    let sink = scene.run_sink(keeper.clone());
    let events = calls(4, 10);
    let (early, late) = events.split_at(20);
    let stage = scene.run(Counter::default());
    scene.write(early).await;
    assert_eq!(scene.output_of(early.len()).await.len(), early.len());
    stage.stop().await.unwrap();

    // The state of the open calls is rebuilt, and nothing is written a second time.
    let stage = scene.run(Counter::default());
    scene.write(late).await;
    let output = scene.output_of(events.len()).await;
    assert_eq!(output.len(), events.len());
    let real = Scene::new(harness::kafka().await.bootstrap()).await;
    let expected = real.undisturbed(&events).await;
    assert_eq!(
        crate::scene::stories(&output),
        crate::scene::stories(&expected)
    );

    // Poison finds its way, and the next record is quick.
    scene.write(&[utterance("call-x", 1, "poison")]).await;
    assert_eq!(scene.dead_letters(2).await.len(), 2);
    let begun = Instant::now();
    scene.write(&[utterance("call-x", 2, "words")]).await;
    scene.output_of(events.len() + 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    eventually(DEADLINE, "the sink has all but the poison", async || {
        (keeper.kept().len() >= events.len() * 2 + 2).then_some(())
    })
    .await;
    stage.stop().await.unwrap();
    sink.stop().await.unwrap();
}
