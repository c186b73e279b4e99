//! Dead letters redriven: each once, in order, for the stage that gave them up and for no other.

use std::collections::BTreeMap;

use harness::{Signal, eventually};
use pipeline::Envelope;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use schemas::{Action, AnyEvent, Body, Event, Insight, Item, Language, ObjectionKind, Tip, topics};
use sqlx::Row;

use crate::scene::{SOON, Scene, feedback, insights};

/// Writes an event to its topic's dead letters, as a stage does that gives it up: the cause has been
/// mended since.
async fn bury<T: Item>(scene: &Scene, event: &Event<T>, at: i64, (stage, reason): (&str, &str)) {
    let topic = scene.kafka.topic(&T::TOPIC);
    let (offset, at) = (at.to_string(), (pipeline::clock::now() - 1_000).to_string());
    let headers = [
        (
            "traceparent",
            "00-0000000000000000000000000000000a-000000000000000b-01",
        ),
        ("dead.topic", topic.as_str()),
        ("dead.partition", "0"),
        ("dead.offset", offset.as_str()),
        ("dead.timestamp", at.as_str()),
        ("dead.stage", stage),
        ("dead.reason", reason),
        ("dead.detail", "the schema was not known then"),
        ("dead.at", at.as_str()),
    ];
    scene
        .write_raw(&scene.kafka.dead(&T::TOPIC), event, &headers)
        .await;
}

/// A call's insights as coaching gave them up, letter by letter.
async fn bury_call(scene: &Scene, call: &str, reason: &str) -> usize {
    let found = [
        ObjectionKind::Price,
        ObjectionKind::Timing,
        ObjectionKind::Trust,
    ];
    let events = insights("acme", call, &found.map(|kind| (kind, Language::En)));
    for (at, event) in events.iter().enumerate() {
        let AnyEvent::Insight(event) = event else {
            panic!("an insight")
        };
        let at = i64::try_from(at).unwrap();
        bury(scene, event, at, ("coaching", reason)).await;
    }
    events.len()
}

/// Records of a topic with their headers, each partition in order.
fn records(scene: &Scene, topic: &str) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka.bootstrap)
        .set("group.id", harness::unique("look"))
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut all = rdkafka::TopicPartitionList::new();
    for partition in 0..12 {
        all.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut found, mut ended) = (Vec::new(), std::collections::HashSet::new());
    let deadline = std::time::Instant::now() + SOON;
    while ended.len() < 12 {
        assert!(std::time::Instant::now() < deadline, "{topic} has no end");
        match consumer.poll(std::time::Duration::from_millis(100)) {
            None => {}
            Some(Ok(record)) => found.push(record.detach()),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => panic!("{error}"),
        }
    }
    found
}

fn header(record: &OwnedMessage, key: &str) -> Option<String> {
    let headers = record.headers()?;
    let header = headers.iter().find(|header| header.key == key)?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}

/// Each call's events, in order.
fn stories(events: &[Envelope<AnyEvent>]) -> BTreeMap<String, Vec<AnyEvent>> {
    let mut stories: BTreeMap<String, Vec<AnyEvent>> = BTreeMap::new();
    for envelope in events {
        let call = envelope.event.head().call_id.clone();
        stories
            .entry(call)
            .or_default()
            .push(envelope.event.clone());
    }
    stories
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_back_once_in_order_and_for_their_stage_alone() {
    let scene = Scene::new().await;
    let mut total = 0;
    for call in ["call-1", "call-2", "call-3"] {
        total += bury_call(&scene, call, "schema").await;
    }
    bury_call(&scene, "call-4", "seal").await;
    let plan = scene
        .replay(&["plan", "redrive", "--reason", "schema"])
        .await;
    assert!(
        plan.contains(&format!("redrive   {total} dead letters")),
        "{plan}"
    );
    assert!(plan.contains("through coaching, reason schema"), "{plan}");
    assert!(plan.contains("the schema was not known then"), "{plan}");
    assert_eq!(scene.events(&[topics::CALLS_INSIGHTS]).await.len(), 0);

    // Killed half way, it goes on where it was.
    let slow = [
        "replay", "run", "redrive", "--reason", "schema", "--rate", "2", "--yes",
    ];
    let mut killed = scene.spawn(&slow);
    let id = scene.half_way().await;
    killed.kill();
    scene.stopped(&id).await;
    scene.replay(&["resume", &id, "--yes"]).await;
    let back = scene.events(&[topics::CALLS_INSIGHTS]).await;
    assert_eq!(back.len(), total, "each letter once");
    let found = [
        ObjectionKind::Price,
        ObjectionKind::Timing,
        ObjectionKind::Trust,
    ];
    for (call, story) in stories(&back) {
        let expected = insights("acme", &call, &found.map(|kind| (kind, Language::En)));
        assert_eq!(story, expected, "{call} is in order");
    }
    for record in records(&scene, &scene.kafka.topic(&topics::CALLS_INSIGHTS)) {
        assert_eq!(header(&record, "replay.id"), Some(id.clone()));
        assert_eq!(header(&record, "replay.stage").as_deref(), Some("coaching"));
        assert!(header(&record, "traceparent").is_some());
        assert_eq!(header(&record, "dead.reason"), None, "a fresh start");
    }
    let again = scene
        .replay(&["run", "redrive", "--reason", "schema", "--yes"])
        .await;
    assert!(again.contains("redrive   0 dead letters"), "{again}");
    assert!(
        again.contains(&format!("{total} were redriven before")),
        "{again}"
    );

    // Coaching takes them, and what it makes of them still says that it is no news; reporting has
    // had the insights when they were new, and keeps the tips.
    let mut stages = scene.spawn(&["run", "coaching", "reporting"]);
    let pool = scene.pool().await;
    let count = async |table: &str| -> i64 {
        let statement = format!("SELECT COUNT(*) FROM {table}");
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .fetch_one(&pool)
            .await;
        row.map_or(-1, |row| row.get(0))
    };
    eventually(SOON, "the tips are kept", async || {
        (count("tips").await == 9).then_some(())
    })
    .await;
    assert_eq!(count("insights").await, 0);
    let tips = records(&scene, &scene.kafka.topic(&topics::COACHING_TIPS));
    assert_eq!(tips.len(), total);
    for tip in &tips {
        assert_eq!(header(tip, "replay.id"), Some(id.clone()));
        assert_eq!(header(tip, "replay.stage"), None, "for whoever follows");
    }
    stages.signal(Signal::Term);
    assert!(stages.wait(SOON).await.success());
    let replay = &scene.journal().await[0];
    assert_eq!(
        (replay["standing"].clone(), replay["kind"].clone()),
        ("finished".into(), "redrive".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_that_is_redriven_counts_once_and_a_selection_leaves_the_rest() {
    let scene = Scene::new().await;
    let (kept, lost) = (
        feedback("acme", "call-1", Action::Used, 0),
        feedback("acme", "call-2", Action::Used, 1),
    );
    let other = feedback("other", "call-3", Action::Shown, 2);
    scene.write(&AnyEvent::Feedback(kept.clone())).await;
    // One of these was counted after all; the other was not.
    for (at, event) in [&kept, &lost, &other].into_iter().enumerate() {
        let at = i64::try_from(at).unwrap();
        bury(&scene, event, at, ("reporting", "database")).await;
    }
    let mut sink = scene.spawn(&["run", "reporting"]);
    let pool = scene.pool().await;
    let calls = async || -> Vec<String> {
        let rows = sqlx::query("SELECT call_id FROM feedback ORDER BY call_id");
        let rows = rows.fetch_all(&pool).await.unwrap_or_default();
        rows.iter().map(|row| row.get(0)).collect()
    };
    eventually(SOON, "the first is kept", async || {
        (calls().await == ["call-1"]).then_some(())
    })
    .await;
    scene
        .replay(&["run", "redrive", "--tenant", "acme", "--yes"])
        .await;
    eventually(SOON, "the lost one is kept", async || {
        (calls().await == ["call-1", "call-2"]).then_some(())
    })
    .await;
    let plan = scene
        .replay(&["plan", "redrive", "--stage", "reporting"])
        .await;
    assert!(plan.contains("redrive   1 dead letters"), "{plan}");
    scene
        .replay(&["run", "redrive", "--call", "call-3", "--yes"])
        .await;
    eventually(SOON, "all are kept", async || {
        (calls().await == ["call-1", "call-2", "call-3"]).then_some(())
    })
    .await;
    sink.signal(Signal::Term);
    assert!(sink.wait(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_would_be_lost_or_do_harm_are_refused_and_nothing_is_sent() {
    let scene = Scene::new().await;
    let AnyEvent::Insight(event) = insights("acme", "call-1", &[]).remove(0) else {
        panic!("an insight")
    };
    let event: Event<Insight> = event;
    bury(&scene, &event, 0, ("gateway", "test")).await;
    bury(&scene, &event, 1, ("nobody", "test")).await;
    for (stage, reason) in [
        ("gateway", "--with-effects"),
        ("nobody", "not in this program"),
    ] {
        let arguments = ["replay", "run", "redrive", "--stage", stage, "--yes"];
        let (status, _, stderr) = scene.coach(&arguments).await;
        assert!(!status.success() && stderr.contains(reason), "{stderr}");
    }
    let (status, _, stderr) = scene
        .coach(&["replay", "run", "redrive", "--offsets", "calls.audio/0:5-1"])
        .await;
    assert!(
        !status.success() && stderr.contains("TOPIC/PARTITION:FROM-TO"),
        "{stderr}"
    );
    assert_eq!(scene.events(&[topics::CALLS_INSIGHTS]).await.len(), 0);
    assert!(scene.journal().await.is_empty());
}

/// What a tip's body is, where only tips are meant.
pub fn tips(events: &[Envelope<AnyEvent>]) -> Vec<(String, Tip)> {
    let tip = |envelope: &Envelope<AnyEvent>| match &envelope.event {
        AnyEvent::Tip(Event {
            head,
            body: Body::Item(tip),
        }) => Some((head.call_id.clone(), tip.clone())),
        _ => None,
    };
    events.iter().filter_map(tip).collect()
}
