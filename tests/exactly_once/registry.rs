//! Schemas that another writer registered: stages, sinks and readers ask the registry for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use harness::eventually;
use pipeline::reader::{From, Replayed};
use pipeline::{Decoder, Poison, ReadError, Reader, SchemaSource, StageError};
use schemas::{AnyEvent, Codec, topics};
use serde_json::{Value, json};

use crate::scene::{DEADLINE, Scene, started};
use crate::stages::{Counter, Keeper};

const NEWER: u32 = 100_001;
const UNKNOWN: u32 = 100_002;

/// Knows one schema, and is away at first.
struct Registry {
    newer: String,
    away: AtomicI32,
}

impl Registry {
    fn new() -> Arc<Self> {
        let mut newer: Value = serde_json::from_str(topics::CALLS_TRANSCRIPT.schema).unwrap();
        let added = json!({ "name": "added_later", "type": ["null", "string"], "default": null });
        newer["fields"].as_array_mut().unwrap().push(added);
        Arc::new(Self {
            newer: newer.to_string(),
            away: AtomicI32::new(2),
        })
    }
}

impl SchemaSource for Registry {
    fn schema(&self, id: u32) -> BoxFuture<'_, Result<String, StageError>> {
        let answer = if self.away.fetch_sub(1, Ordering::SeqCst) > 0 {
            Err(StageError::transient(std::io::Error::other("away")))
        } else if id == NEWER {
            Ok(self.newer.clone())
        } else {
            Err(Poison::new("schema", "no such id").into())
        };
        ready(answer).boxed()
    }
}

/// A scene with a record of a newer schema and one of a schema that nobody knows.
async fn scene() -> Scene {
    let scene = Scene::new(harness::kafka().await.bootstrap()).await;
    for (id, call) in [(NEWER, "call-1"), (UNKNOWN, "call-2")] {
        let mut bytes = scene.codec.encode(&started(call)).unwrap();
        bytes[1..5].copy_from_slice(&id.to_be_bytes());
        bytes.push(0);
        scene.write_raw(0, call, &bytes).await;
    }
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_waits_for_the_registry_and_reads_what_another_writer_wrote() {
    let scene = scene().await;
    let codec = Arc::new(Codec::new().unwrap());
    let decoder = Decoder::new(codec, Some(Registry::new()));
    let topics = [topics::CALLS_TRANSCRIPT];
    let reader = Reader::open(
        &scene.kafka,
        decoder,
        &topics,
        From::Beginning,
        Replayed::Read,
    )
    .await;
    let mut reader = reader.unwrap();
    // Whoever gives up waiting and comes back has missed nothing.
    let mut read = async || {
        let patience = Duration::from_millis(20);
        eventually(DEADLINE, "a record is read", async || {
            tokio::time::timeout(patience, reader.next()).await.ok()
        })
        .await
    };
    let event = read().await.unwrap().event;
    assert_eq!(event, AnyEvent::Transcript(started("call-1")));
    let error = read().await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Poison { poison, .. } if poison.reason == "schema"),
        "{error}"
    );
    assert!(reader.caught_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_and_sinks_wait_for_the_registry_and_read_what_another_writer_wrote() {
    let mut scene = scene().await;
    for sink in [true, false] {
        scene.registry = Some(Registry::new());
        let keeper = Keeper::default();
        let running = match sink {
            false => scene.run(Counter::default()),
            true => scene.run_sink(keeper.clone()),
        };
        let count = |outcome| running.counted("coach_records_total", Some(("outcome", outcome)));
        let taken = if sink { "written" } else { "emitted" };
        eventually(DEADLINE, "one is taken, one is dead", async || {
            (count(taken) == 1.0 && count("dead_lettered") == 1.0).then_some(())
        })
        .await;
        running.stop().await.unwrap();
    }
}
