//! When a stage or sink says that it is ready: not before it has its partitions and the state of
//! their open calls, and not while the brokers are away.

use crate::scene::{PARTITIONS, Scene, started, utterance};
use crate::stages::{Counter, Keeper};

async fn scene() -> Scene {
    Scene::new(harness::kafka().await.bootstrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_ready_once_the_state_of_its_open_calls_is_rebuilt() {
    let scene = scene().await;
    let stage = scene.run(Counter::default());
    let events = [started("call-1"), utterance("call-1", 1, "slow 1000")];
    scene.write(&events).await;
    scene.output_of(2).await;
    stage.stop().await.unwrap();

    let stage = scene.run(Counter::default());
    stage.until_ready(true).await;
    assert_eq!(stage.counted("coach_rebuilt_records_total", None), 2.0);
    stage.stop().await.unwrap();

    // Records that are gone are not waited for.
    scene.forget_input().await;
    let stage = scene.run(Counter::default());
    stage.until_ready(true).await;
    assert_eq!(stage.counted("coach_rebuilt_records_total", None), 0.0);
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_for_which_no_partition_is_left_is_ready_too() {
    let scene = scene().await;
    let mut instances = Vec::new();
    for _ in 0..=PARTITIONS {
        instances.push(scene.run(Counter::default()));
    }
    for instance in &instances {
        instance.until_ready(true).await;
    }
    for instance in instances {
        instance.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_sinks_are_not_ready_while_the_brokers_are_away() {
    let kafka = harness::Kafka::start(1).await;
    let mut scene = Scene::new(kafka.bootstrap()).await;
    // Not because the group has given them up, but because nobody is there.
    scene.settings.session_timeout_ms = 60_000;
    let stage = scene.run(Counter::default());
    let sink = scene.run_sink(Keeper::default());
    let until_ready = async |ready| {
        stage.until_ready(ready).await;
        sink.until_ready(ready).await;
    };
    until_ready(true).await;
    kafka.stop_broker(1).await;
    until_ready(false).await;
    kafka.start_broker(1).await;
    until_ready(true).await;
    stage.stop().await.unwrap();
    sink.stop().await.unwrap();
}
