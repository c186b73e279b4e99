//! Sinks: everything arrives, poison apart, and nothing is committed before it is written.

use std::collections::HashSet;

use harness::eventually;
use rdkafka::Message;
use schemas::EventId;

use crate::scene::{DEADLINE, Scene, calls, ended, started, utterance};
use crate::stages::Keeper;

async fn scene() -> Scene {
    Scene::new(harness::kafka().await.bootstrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_every_event_and_goes_on_where_it_stopped() {
    let scene = scene().await;
    let events = calls(6, 20);
    let (early, late) = events.split_at(60);
    scene.write(early).await;
    for part in [early, late] {
        if part == late {
            scene.write(late).await;
        }
        let keeper = Keeper::default();
        let sink = scene.run_sink(keeper.clone());
        let wanted: HashSet<EventId> = part.iter().map(|event| event.head.event_id).collect();
        eventually(DEADLINE, "all is written", async || {
            (keeper.kept().len() >= part.len()).then_some(())
        })
        .await;
        sink.stop().await.unwrap();
        let kept = keeper.kept();
        assert_eq!(kept.len(), part.len());
        assert_eq!(kept.into_iter().collect::<HashSet<_>>(), wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_finds_the_poison_in_a_batch_and_writes_the_rest() {
    let scene = scene().await;
    let events = [
        started("call-1"),
        utterance("call-1", 1, "a"),
        utterance("call-1", 2, "poison"),
        utterance("call-1", 3, "flaky 2"),
        ended("call-1"),
    ];
    scene.write(&events).await;
    scene.write_raw(0, "x", b"no event").await;
    let keeper = Keeper::default();
    let sink = scene.run_sink(keeper.clone());
    let letters = scene.dead_letters(2).await;
    assert_eq!(letters.len(), 2);
    let payloads: HashSet<&[u8]> = letters.iter().filter_map(|l| l.payload()).collect();
    let poison = scene.codec.encode(&events[2]).unwrap();
    assert_eq!(payloads, HashSet::from([&b"no event"[..], &poison[..]]));
    let wanted: Vec<EventId> = [0, 1, 3, 4]
        .map(|n: usize| events[n].head.event_id)
        .to_vec();
    eventually(DEADLINE, "the rest is written", async || {
        (keeper.kept() == wanted).then_some(())
    })
    .await;
    assert_eq!(sink.counted("coach_retries_total", None), 2.0);
    sink.stop().await.unwrap();
}
