//! Stages that are killed and frozen, and brokers that go away.

use std::time::Duration;

use harness::{Process, Signal, eventually};
use schemas::{Event, Utterance};

use crate::scene::{DEADLINE, Scene, calls, stories};
use crate::stages::Counter;

/// Between two records: a stage that is killed meanwhile is in the middle of calls.
const PAUSE: Duration = Duration::from_millis(8);

async fn scene() -> Scene {
    Scene::new(harness::kafka().await.bootstrap()).await
}

/// What was written is what an undisturbed run writes: none lost, none twice.
async fn assert_as_undisturbed(scene: &Scene, events: &[Event<Utterance>]) {
    let output = scene.output_of(events.len()).await;
    let undisturbed = scene.undisturbed(events).await;
    assert_eq!(undisturbed.len(), events.len());
    assert_eq!(stories(&output), stories(&undisturbed));
}

async fn says(process: &Process, text: &str) {
    eventually(DEADLINE, text, async || {
        process.stderr().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_killed_in_the_middle_of_calls_leaves_no_trace_of_it() {
    let scene = scene().await;
    let events = calls(10, 60);
    let writing = scene.write_slowly(&events, PAUSE);
    let killing = async {
        let mut stage = scene.spawn(Some("one"));
        for output in [30, 150, 300, 420] {
            scene.output_of(output).await;
            stage.kill();
            stage = scene.spawn(Some("one"));
        }
        scene.output_of(events.len()).await;
        stage
    };
    let ((), mut stage) = tokio::join!(writing, killing);
    assert_as_undisturbed(&scene, &events).await;
    stage.signal(Signal::Term);
    assert!(stage.wait(DEADLINE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_takes_over_from_one_that_was_killed() {
    let scene = scene().await;
    let events = calls(10, 60);
    let writing = scene.write_slowly(&events, PAUSE);
    let killing = async {
        let mut first = scene.spawn(None);
        scene.output_of(30).await;
        let second = scene.spawn(None);
        says(&second, "reading partition").await;
        scene.output_of(200).await;
        first.kill();
        second
    };
    let ((), _second) = tokio::join!(writing, killing);
    assert_as_undisturbed(&scene, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_that_comes_back_writes_nothing_twice() {
    let scene = scene().await;
    let events = calls(10, 60);
    let writing = scene.write_slowly(&events, PAUSE);
    let freezing = async {
        let zombie = scene.spawn(None);
        let other = scene.spawn(None);
        says(&zombie, "reading partition").await;
        says(&other, "reading partition").await;
        scene.output_of(150).await;
        zombie.signal(Signal::Stop);
        // All partitions move to the other, whose calls go on.
        scene.output_of(450).await;
        zombie.signal(Signal::Continue);
        (zombie, other)
    };
    let ((), (mut zombie, other)) = tokio::join!(writing, freezing);
    assert_as_undisturbed(&scene, &events).await;
    // It is back in the group and works on.
    assert!(zombie.exited().is_none(), "{}", zombie.stderr());
    drop(other);
    let more = crate::scene::calls_named("later", 4, 10);
    scene.write(&more).await;
    let all: Vec<_> = events.iter().chain(&more).cloned().collect();
    assert_as_undisturbed(&scene, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_away_lose_nothing() {
    let kafka = harness::Kafka::start(1).await;
    let scene = Scene::new(kafka.bootstrap()).await;
    let events = calls(10, 40);
    let stage = scene.run(Counter::default());
    let writing = scene.write_slowly(&events, PAUSE);
    let killing = async {
        scene.output_of(50).await;
        kafka.kill_broker(1).await;
        kafka.start_broker(1).await;
        scene.output_of(200).await;
        kafka.stop_broker(1).await;
        kafka.start_broker(1).await;
    };
    tokio::join!(writing, killing);
    assert_as_undisturbed(&scene, &events).await;
    stage.stop().await.unwrap();
}
