//! JSON lines of other systems' transcripts, on librdkafka's in-process cluster.

use std::sync::Arc;

use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::{Delivery, Kafka, Producer, Sealer};
use producers::call::{Call, Pace};
use producers::transcript::Transcripts;
use proptest::prelude::*;
use rdkafka::mocking::MockCluster;
use schemas::{Codec, Speaker, topics};
use tokio_util::sync::CancellationToken;

use crate::bytes::near;
use crate::fuzz;

const VALID: [&str; 4] = [
    r#"{"call":"c","speaker":"rep","start_ms":0,"end_ms":2400,"language":"en","text":"hello"}"#,
    r#"{"channel":1,"end_ms":900,"language":"zh","text":"太贵了"}"#,
    r#"{"call":"c","rep":"ana","customer":"X","speaker":"customer","end_ms":5,"text":"a\nb"}"#,
    r#"{"call":"c","ended":true}"#,
];

#[test]
fn every_line_is_written_or_named_as_bad_and_none_stops_the_rest() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = MockCluster::new(1).unwrap();
    cluster
        .create_topic(topics::CALLS_TRANSCRIPT.name, 1, 1)
        .unwrap();
    let kafka = Kafka {
        bootstrap: cluster.bootstrap_servers(),
        delivery: Delivery::AtLeastOnce,
        ..Kafka::default()
    };
    let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
    let sealer = Sealer::new(master, MemoryKeys::default());
    let entered = runtime.enter();
    let producer = Producer::new(&kafka, Arc::new(Codec::new().unwrap())).unwrap();
    drop(entered);
    let transcripts = Transcripts {
        producer: &producer,
        sealer: &sealer,
        default: Call {
            id: "default".to_owned(),
            tenant: "acme".to_owned(),
            rep: "ana".to_owned(),
            customer: None,
            language: "auto".to_owned(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            source: "transcript",
        },
        started_at: 1_790_000_000_000,
        pace: Pace::start(0.0),
    };
    let mut valid: Vec<Vec<u8>> = VALID.map(|line| line.as_bytes().to_vec()).into();
    valid.push(VALID.join("\n").into_bytes());
    fuzz(&near(valid), |bytes| {
        let cancel = CancellationToken::new();
        let mut named = 0;
        let streamed = transcripts.stream(&bytes[..], &cancel, |_| named += 1);
        // Bytes that are no UTF-8 end the input with an error that says so.
        if let Ok(streamed) = runtime.block_on(streamed) {
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            prop_assert_eq!(streamed.bad.len(), named);
            prop_assert!(streamed.utterances + named <= text.lines().count());
        }
        Ok(())
    });
}
