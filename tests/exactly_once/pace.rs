//! How fast one stage passes records on, exactly once, on one real broker.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::reader::{From, Replayed};
use pipeline::{Decoder, Reader};
use schemas::{EventId, topics};

use crate::scene::{DEADLINE, Scene, started, utterance};
use crate::stages::Counter;

/// Records a second.
const RATE: u64 = 50;
const SECONDS: u64 = 20;
const CALLS: u32 = 25;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test --release --test exactly_once pace -- --ignored --nocapture"]
async fn pace_of_one_stage_at_50_records_a_second() {
    let scene = Scene::new(harness::kafka().await.bootstrap()).await;
    let stage = scene.run(Counter::default());
    let calls: Vec<String> = (0..CALLS).map(|n| format!("call-{n}")).collect();
    let starts: Vec<_> = calls.iter().map(|call| started(call)).collect();
    scene.write(&starts).await;
    scene.output_of(starts.len()).await;

    let decoder = Decoder::new(Arc::clone(&scene.codec), None);
    let topics = [topics::CALLS_INSIGHTS];
    let mut reader = Reader::open(&scene.kafka, decoder, &topics, From::End, Replayed::Read)
        .await
        .unwrap();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let events: Vec<_> = (0..(RATE * SECONDS) as u32)
        .map(|n| utterance(&calls[(n % CALLS) as usize], 1 + n / CALLS, "words"))
        .collect();
    let writing = async {
        let mut sent: HashMap<EventId, Instant> = HashMap::new();
        for event in &events {
            ticks.tick().await;
            let id = EventId::derive("counter", &event.head.event_id.to_string(), 0);
            sent.insert(id, Instant::now());
            scene.write(std::slice::from_ref(event)).await;
        }
        sent
    };
    let reading = async {
        let mut came: Vec<(EventId, Instant)> = Vec::new();
        while came.len() < events.len() {
            let envelope = tokio::time::timeout(DEADLINE, reader.next()).await;
            let envelope = envelope.unwrap().unwrap();
            came.push((envelope.event.head().event_id, Instant::now()));
        }
        came
    };
    let (sent, came) = tokio::join!(writing, reading);
    let mut took: Vec<Duration> = came.iter().map(|(id, at)| *at - sent[id]).collect();
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    println!(
        "{} records at {RATE}/s: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        took.len(),
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
    stage.stop().await.unwrap();
}
