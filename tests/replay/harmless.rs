//! No replay does harm: every stage of the registry refuses what is replayed and not for it.

use std::path::Path;

use consumers::registry::{self, Entry, Process};
use harness::eventually;
use pipeline::config::{Config, DatabaseUrl};
use pipeline::database::{self, DatabaseSettings};
use pipeline::replay::{Kind, Mark};
use pipeline::seal::{DatabaseKeys, MasterKey};
use pipeline::telemetry::Health;
use pipeline::{Deps, Effects, Sealer, runner};
use schemas::{AnyEvent, Event, Item, Topic};
use tokio_util::sync::CancellationToken;

use crate::scene::{SOON, Scene, call, marked};

/// The marks of records that a stage must not see, whatever its effects; with effects outside, also
/// those that are for whoever follows, and those for itself without the operator's word.
fn refused(entry: &Entry) -> Vec<Mark> {
    let mark = |kind, stage: Option<&str>, effects| Mark {
        id: "replay-of-a-test".into(),
        kind,
        stage: stage.map(str::to_owned),
        effects,
    };
    let mut marks = vec![
        mark(Kind::Shadow, None, false),
        mark(Kind::Shadow, Some(entry.name), true),
        mark(Kind::Redrive, Some("another stage"), true),
    ];
    if entry.effects == Effects::Outside {
        marks.push(mark(Kind::Redrive, None, false));
        marks.push(mark(Kind::Redrive, None, true));
        marks.push(mark(Kind::Redrive, Some(entry.name), false));
    }
    marks
}

/// Writes the first event that there is for the topic.
async fn write(scene: &Scene, topic: &Topic, mark: &Mark) {
    async fn raw<T: Item>(scene: &Scene, event: &Event<T>, mark: &Mark) {
        let headers = marked(mark);
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        scene
            .write_raw(&scene.kafka.topic(&T::TOPIC), event, &headers)
            .await;
    }
    for event in call("acme", "call-1") {
        match &event {
            AnyEvent::Audio(event) if schemas::Chunk::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::Transcript(event) if schemas::Utterance::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::Insight(event) if schemas::Insight::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::NoteRequest(event) if schemas::NoteRequest::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::ParkedNote(event) if schemas::ParkedNote::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::Note(event) if schemas::Note::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            AnyEvent::Tip(event) if schemas::Tip::TOPIC == *topic => raw(scene, event, mark).await,
            AnyEvent::Feedback(event) if schemas::Feedback::TOPIC == *topic => {
                raw(scene, event, mark).await
            }
            _ => continue,
        }
        return;
    }
    panic!("no event for {}", topic.name);
}

async fn process(scene: &Scene) -> Process {
    let environment = scene
        .environment
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()));
    let home = [("HOME".to_owned(), std::env::var("HOME").unwrap_or_default())];
    let cache =
        std::env::var("SALES_COACH_CACHE").map(|cache| ("SALES_COACH_CACHE".to_owned(), cache));
    let environment = environment.chain(home).chain(cache);
    let config = Config::load(None::<&Path>, environment).unwrap();
    let settings = DatabaseSettings {
        url: DatabaseUrl::new(scene.database.as_str()),
        connections: 4,
    };
    let database = database::connect(&settings).await.unwrap();
    let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
    let keys = DatabaseKeys::open(database.clone()).await.unwrap();
    Process {
        deps: Deps {
            codec: scene.codec.clone(),
            registry: None,
            sealer: Sealer::new(master, keys),
            cache: config.cache().unwrap(),
            health: Health::default(),
            metrics: prometheus::Registry::new(),
            database,
        },
        config,
        kafka: scene.kafka.clone(),
        runner: runner::Settings::default(),
        shutdown: CancellationToken::new(),
    }
}

/// What a process has counted of records, in all: those with this reason, and the others.
fn counted(metrics: &prometheus::Registry) -> (f64, f64) {
    let (mut replayed, mut others) = (0.0, 0.0);
    for family in metrics.gather() {
        let of_records = ["coach_records_total", "coach_gateway_records_skipped_total"];
        if !of_records.contains(&family.name()) {
            continue;
        }
        for metric in family.get_metric() {
            let mut labels = metric.get_label().iter();
            let is = labels.any(|label| label.name() == "reason" && label.value() == "replayed");
            let value = metric.get_counter().get_value();
            *(if is { &mut replayed } else { &mut others }) += value;
        }
    }
    (replayed, others)
}

/// The gateway shows a call, or any other stage has finished a record.
fn worked(metrics: &prometheus::Registry) -> bool {
    let calls = metrics.gather().iter().any(|family| {
        family.name() == "coach_gateway_calls"
            && family
                .get_metric()
                .iter()
                .any(|metric| metric.get_gauge().get_value() > 0.0)
    });
    calls || counted(metrics).1 > 0.0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stage_refuses_what_is_replayed_and_not_for_it() {
    harness::models();
    // Without a tenant that has a CRM, no notes are written and nothing is read.
    let tenants = tempfile::tempdir().unwrap();
    std::fs::write(tenants.path().join("acme.yaml"), "hubspot: {}\n").unwrap();
    for entry in registry::STAGES {
        let mut scene = Scene::new().await;
        let folder = tenants.path().display().to_string();
        scene
            .environment
            .push(("SALES_COACH__CRM__TENANTS", folder));
        let process = process(&scene).await;
        let marks = refused(entry);
        for topic in entry.reads {
            for mark in &marks {
                write(&scene, topic, mark).await;
            }
        }
        let expected = (marks.len() * entry.reads.len()) as f64;
        let running = tokio::spawn((entry.run)(process.clone()));
        let metrics = &process.deps.metrics;
        let what = format!("{} refuses {expected} records", entry.name);
        eventually(SOON, &what, async || {
            assert!(!running.is_finished(), "{} has ended", entry.name);
            (counted(metrics).0 == expected).then_some(())
        })
        .await;
        assert!(!worked(metrics), "{} did something", entry.name);

        // The very same events that are no replay are taken.
        // A call that has ended is on no screen.
        let events = call("acme", "call-1");
        for event in events.iter().filter(|event| event.ended().is_none()) {
            scene.write(event).await;
        }
        eventually(SOON, &format!("{} works", entry.name), async || {
            worked(metrics).then_some(())
        })
        .await;
        assert_eq!(counted(metrics).0, expected, "{}", entry.name);
        process.shutdown.cancel();
        running.await.unwrap().unwrap();
    }
}

#[test]
fn whoever_serves_screens_or_keeps_rows_says_so() {
    let effects = |name: &str| registry::named(name).map(|entry| entry.effects);
    for name in ["gateway", "crm", "crm-writer", "crm-parking"] {
        assert_eq!(effects(name), Some(Effects::Outside), "{name}");
    }
    assert_eq!(effects("reporting"), Some(Effects::Rows));
    for name in ["transcription", "insights", "coaching"] {
        assert_eq!(effects(name), Some(Effects::Topic), "{name}");
    }
    // What has effects is never tried on recorded calls.
    for entry in registry::STAGES {
        assert_eq!(
            entry.trial.is_some(),
            entry.effects == Effects::Topic,
            "{}",
            entry.name
        );
    }
}
