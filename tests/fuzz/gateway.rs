//! Requests to the gateway, written to its port as they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use consumers::gateway::{Gateway, Settings, mint_token};
use pipeline::config::DatabaseUrl;
use pipeline::database::{self, DatabaseSettings};
use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::telemetry::Health;
use pipeline::{Delivery, Deps, Kafka, Sealer, Secret};
use proptest::prelude::*;
use rdkafka::mocking::MockCluster;
use schemas::{Codec, topics};
use tokio_util::sync::CancellationToken;

use crate::bytes::near;
use crate::fuzz;

const SECRET: &str = "a secret of thirty-two bytes, not a real one";
/// A request that is whole is answered sooner; one that is not waits for its rest for good.
const SOON: Duration = Duration::from_millis(200);
/// By then a gateway that serves has answered.
const LATE: Duration = Duration::from_secs(10);

fn requests(token: &str) -> Vec<Vec<u8>> {
    let bearer = format!("Host: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
    let post = |path: &str, body: &str| {
        let length = body.len();
        let kind = "Content-Type: application/json\r\n";
        format!("POST {path} HTTP/1.1\r\n{bearer}{kind}Content-Length: {length}\r\n\r\n{body}")
    };
    let tip = "/v1/tips/6f1d5c0a-0d6b-5e1c-9a53-3c0f7b1ea001/feedback";
    [
        format!("GET /ready HTTP/1.1\r\n{bearer}\r\n"),
        format!("GET /v1/session HTTP/1.1\r\n{bearer}\r\n"),
        format!("GET /schemas/ids/2 HTTP/1.1\r\n{bearer}\r\n"),
        format!("GET /subjects/calls.audio-value/versions/1 HTTP/1.1\r\n{bearer}\r\n"),
        format!("HEAD /v1/events HTTP/1.1\r\n{bearer}Last-Event-ID: c~1.-.2.-\r\n\r\n"),
        post(tip, r#"{"action":"shown"}"#),
        post("/v1/session", &format!(r#"{{"token":"{token}"}}"#)),
    ]
    .map(String::into_bytes)
    .into()
}

async fn gateway(bootstrap: String) -> Gateway {
    let kafka = Kafka {
        bootstrap,
        delivery: Delivery::AtLeastOnce,
        ..Kafka::default()
    };
    let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
    let settings = DatabaseSettings {
        url: DatabaseUrl::new("sqlite::memory:"),
        ..DatabaseSettings::default()
    };
    let deps = Deps {
        codec: Arc::new(Codec::new().unwrap()),
        registry: None,
        sealer: Sealer::new(master, MemoryKeys::default()),
        cache: std::path::PathBuf::new(),
        health: Health::default(),
        metrics: prometheus::Registry::new(),
        database: database::connect(&settings).await.unwrap(),
    };
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        token_secret: Secret::new(SECRET),
        ..Settings::default()
    };
    Gateway::open(settings, deps, kafka, CancellationToken::new())
        .await
        .unwrap()
}

/// What is answered to these bytes, until the gateway has no more to say or waits for more.
fn answer(address: SocketAddr, bytes: &[u8], within: Duration) -> Vec<u8> {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(within)).unwrap();
    // The gateway may refuse before it has read everything.
    let _ = connection.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // A stream of events goes on for good: its head is enough.
    while answer.len() < 8_192 {
        match connection.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
        }
        if answer.windows(17).any(|part| part == b"text/event-stream") {
            break;
        }
    }
    answer
}

#[test]
fn the_gateway_answers_any_request_and_goes_on_serving() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics::ALL {
        cluster.create_topic(topic.name, 1, 1).unwrap();
    }
    let gateway = runtime.block_on(gateway(cluster.bootstrap_servers()));
    let address = gateway.address();
    let serving = runtime.spawn(gateway.run());
    let token = mint_token(SECRET, "acme", "ana", Duration::from_secs(3_600)).unwrap();
    fuzz(&near(requests(&token)), |bytes| {
        let answered = answer(address, &bytes, SOON);
        let text = String::from_utf8_lossy(&answered);
        let status = text.split(' ').nth(1).unwrap_or("none");
        prop_assert!(!status.starts_with('5') || status == "503", "{text}");
        Ok(())
    });
    let live = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let live = answer(address, live, LATE);
    let text = String::from_utf8_lossy(&live);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(!serving.is_finished());
}
