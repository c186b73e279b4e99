//! Stages that nobody disturbs: order, state, poison, retries, duplicates, handing over.

use std::collections::HashMap;
use std::time::Duration;

use harness::eventually;
use pipeline::runner::RunError;
use rdkafka::Message;
use rdkafka::message::Headers;
use schemas::{AnyEvent, Body};

use crate::scene::{DEADLINE, Scene, calls, ended, started, stories, utterance};
use crate::stages::Counter;

async fn scene() -> Scene {
    Scene::new(harness::kafka().await.bootstrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_one_story_in_order_with_its_trace() {
    let scene = scene().await;
    let stage = scene.run(Counter::default());
    let events = calls(6, 10);
    scene.write(&events).await;
    let output = scene.output_of(events.len()).await;
    assert_eq!(output.len(), events.len());
    let mut counts: HashMap<&str, i32> = HashMap::new();
    for envelope in &output {
        let count = counts.entry(&envelope.event.head().call_id).or_default();
        let AnyEvent::Insight(event) = &envelope.event else {
            panic!("an insight")
        };
        match &event.body {
            Body::Started(_) => assert_eq!(*count, 0),
            Body::Item(insight) => {
                *count += 1;
                assert_eq!(insight.words, *count);
            }
            Body::Ended(ended) => assert_eq!(ended.utterances, Some(10)),
        }
        let trace: Vec<&str> = envelope.trace.traceparent.split('-').collect();
        assert_eq!(trace[1], format!("{:032x}", 7));
        assert_ne!(trace[2], "00000000000000aa");
    }
    assert_eq!(counts.len(), 6);
    eventually(DEADLINE, "all records are counted", async || {
        let emitted = stage.counted("coach_records_total", Some(("outcome", "emitted")));
        (emitted == events.len() as f64).then_some(())
    })
    .await;
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_rebuilt_from_the_low_water_offset_and_nothing_is_written_again() {
    let scene = scene().await;
    // One key, one partition: an ended call lies before the open one.
    let mut events = vec![started("call-a")];
    events.extend((1..=4).map(|n| utterance("call-a", n, "x")));
    events.push(ended("call-a"));
    let stage = scene.run(Counter::default());
    scene.write(&events).await;
    scene
        .write(&[started("call-b"), utterance("call-b", 1, "y")])
        .await;
    scene.output_of(8).await;
    stage.stop().await.unwrap();

    // Each partition's low-water offset is where its open call began.
    for (_, offset, metadata) in scene.committed("counter").await {
        let low_water: i64 = metadata
            .strip_prefix("low-water=")
            .unwrap()
            .parse()
            .unwrap();
        let expected = [(6, 6), (2, 0), (8, 6)];
        assert!(
            expected.contains(&(offset, low_water)),
            "{offset} {low_water}"
        );
    }

    let stage = scene.run(Counter::default());
    scene
        .write(&[utterance("call-b", 2, "z"), ended("call-b")])
        .await;
    let output = scene.output_of(10).await;
    assert_eq!(output.len(), 10);
    let last = output.iter().find_map(|envelope| match &envelope.event {
        AnyEvent::Insight(event) if event.head.call_id == "call-b" => match &event.body {
            Body::Ended(ended) => ended.utterances,
            _ => None,
        },
        _ => None,
    });
    assert_eq!(last, Some(2));
    assert_eq!(stage.counted("coach_rebuilt_records_total", None), 2.0);
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_goes_to_the_dead_letters_with_where_it_came_from() {
    let scene = scene().await;
    let stage = scene.run(Counter::default());
    scene
        .write(&[started("call-1"), utterance("call-1", 1, "a")])
        .await;
    scene.write(&[utterance("call-1", 2, "poison")]).await;
    scene
        .write(&[utterance("call-1", 3, "b"), ended("call-1")])
        .await;
    scene.write_raw(2, "nobody", b"no event").await;
    let stray = scene.codec.encode(&utterance("call-1", 4, "c")).unwrap();
    scene.write_raw(1, "another call", &stray).await;

    let letters = scene.dead_letters(3).await;
    assert_eq!(letters.len(), 3);
    let topic = scene.kafka.topic(&schemas::topics::CALLS_TRANSCRIPT);
    let mut reasons = Vec::new();
    for letter in &letters {
        let headers = letter.headers().unwrap();
        let header = |name: &str| {
            let found = headers.iter().find(|header| header.key == name);
            let value = found.unwrap_or_else(|| panic!("{name}")).value.unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        assert_eq!(header("dead.topic"), topic);
        assert_eq!(header("dead.stage"), "counter");
        let timestamp: i64 = header("dead.timestamp").parse().unwrap();
        assert!(header("dead.at").parse::<i64>().unwrap() >= timestamp);
        let reason = header("dead.reason");
        match reason.as_str() {
            "decode" => {
                assert_eq!(header("dead.partition"), "2");
                assert_eq!(letter.payload(), Some(&b"no event"[..]));
                assert_eq!(letter.key(), Some(&b"nobody"[..]));
            }
            "key" => {
                assert_eq!(header("dead.partition"), "1");
                assert_eq!(letter.payload(), Some(&stray[..]));
            }
            "test" => {
                assert_eq!(header("dead.detail"), "the text says so");
                assert_eq!(letter.key(), Some(&b"call-1"[..]));
                // The record's own headers are kept.
                assert!(header("traceparent").starts_with("00-"));
                let bytes = scene
                    .codec
                    .encode(&utterance("call-1", 2, "poison"))
                    .unwrap();
                assert_eq!(letter.payload(), Some(&bytes[..]));
            }
            other => panic!("{other}"),
        }
        reasons.push(reason);
    }
    reasons.sort();
    assert_eq!(reasons, ["decode", "key", "test"]);

    // The rest of the call went on, as if the poison had not been.
    let output = scene.output_of(4).await;
    let AnyEvent::Insight(event) = &output[3].event else {
        panic!("an insight")
    };
    let Body::Ended(ended) = &event.body else {
        panic!("the end")
    };
    assert_eq!(ended.utterances, Some(2));
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_poison_stops_the_stage_before_anything_is_committed() {
    let scene = scene().await;
    let writes = (0..250).map(|_| scene.write_raw(0, "x", b"no event"));
    futures::future::join_all(writes).await;
    let error = scene.run(Counter::default()).ended().await.unwrap_err();
    assert!(
        matches!(error, RunError::PoisonFlood { poison: 101, .. }),
        "{error}"
    );
    assert!(scene.committed("counter").await.is_empty());
    assert!(scene.dead_letters(0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_stops_the_stage_with_where_it_happened() {
    let scene = scene().await;
    scene
        .write(&[started("call-1"), utterance("call-1", 1, "panic")])
        .await;
    let error = scene.run(Counter::default()).ended().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RunError::Fatal { .. }), "{text}");
    assert!(
        text.contains("the text says so") && text.contains("calls.transcript/"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_never_finishes_a_record_is_stopped() {
    let mut scene = scene().await;
    scene.settings.stuck_s = 2;
    scene
        .write(&[started("call-1"), utterance("call-1", 1, "slow 600000")])
        .await;
    let error = scene.run(Counter::default()).ended().await.unwrap_err();
    assert!(matches!(error, RunError::Stuck { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_waits_for_brokers_that_are_away_and_stops_when_asked() {
    let kafka = pipeline::Kafka {
        bootstrap: format!("127.0.0.1:{}", harness::free_port()),
        ..pipeline::Kafka::default()
    };
    let deps = crate::scene::deps(schemas::Codec::new().unwrap().into());
    let stop = tokio_util::sync::CancellationToken::new();
    let settings = pipeline::runner::Settings::default();
    let stage = Counter::default();
    let run = pipeline::runner::run(stage, &kafka, &settings, &deps, stop.clone());
    let mut run = std::pin::pin!(run);
    let waited = tokio::time::timeout(Duration::from_secs(1), &mut run).await;
    assert!(waited.is_err(), "{waited:?}");
    stop.cancel();
    tokio::time::timeout(DEADLINE, run).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_error_is_retried_in_order_while_other_calls_go_on() {
    let scene = scene().await;
    let stage = scene.run(Counter::default());
    scene
        .write(&[started("slow"), utterance("slow", 1, "flaky 8")])
        .await;
    scene
        .write(&[utterance("slow", 2, "after"), ended("slow")])
        .await;
    // In the same partition or another: only the commit waits, and only in the same.
    scene.write(&calls(8, 3)).await;
    let output = scene.output_of(4 + 8 * 5).await;
    assert_eq!(output.len(), 44);
    let slow: Vec<i32> = output
        .iter()
        .filter_map(|envelope| match &envelope.event {
            AnyEvent::Insight(event) if event.head.call_id == "slow" => Some(&event.body),
            _ => None,
        })
        .map(|body| match body {
            Body::Started(_) => 0,
            Body::Item(insight) => insight.words,
            Body::Ended(ended) => 100 + ended.utterances.unwrap(),
        })
        .collect();
    assert_eq!(slow, [0, 1, 2, 102]);
    assert_eq!(stage.counted("coach_retries_total", None), 8.0);
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_written_twice_counts_once() {
    let scene = scene().await;
    let stage = scene.run(Counter::default());
    let events = calls(2, 5);
    let (body, ends) = events.split_at(events.len() - 2);
    scene.write(body).await;
    scene.write(&body[4..8]).await;
    scene.write(ends).await;
    let output = scene.output_of(events.len()).await;
    assert_eq!(stories(&output), stories(&scene.undisturbed(&events).await));
    eventually(DEADLINE, "duplicates are counted", async || {
        let duplicates = stage.counted("coach_records_total", Some(("reason", "duplicate")));
        (duplicates == 4.0).then_some(())
    })
    .await;
    stage.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_partitions_and_hand_over_when_one_leaves() {
    let scene = scene().await;
    let events = calls(12, 40);
    let first = scene.run(Counter::default());
    let (early, late) = events.split_at(150);
    scene.write(early).await;
    scene.output_of(100).await;
    let second = scene.run(Counter::default());
    let (middle, late) = late.split_at(late.len() / 2);
    let pause = Duration::from_millis(20);
    scene.write_slowly(middle, pause).await;
    eventually(DEADLINE, "the second instance works too", async || {
        (second.counted("coach_events_total", None) > 0.0).then_some(())
    })
    .await;
    assert!(first.counted("coach_events_total", None) > 0.0);
    first.stop().await.unwrap();
    scene.write(late).await;
    let output = scene.output_of(events.len()).await;
    assert_eq!(output.len(), events.len());
    assert_eq!(stories(&output), stories(&scene.undisturbed(&events).await));
    second.stop().await.unwrap();
}
