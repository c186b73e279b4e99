//! A scene of its own for each test: topics on real Kafka, an empty database, calls of the past.

use std::collections::BTreeSet;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use harness::{Process, unique};
use pipeline::reader::{From, Replayed};
use pipeline::replay::{Mark, header};
use pipeline::seal::MasterKey;
use pipeline::{Decoder, Envelope, Kafka, Producer, Reader, TraceContext};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schemas::{
    Action, AnyEvent, Body, Chunk, Codec, Conversation, Crm, Encoding, EndReason, Ended, Event,
    EventId, Feedback, Head, Insight, Item, Language, Note, NoteCause, NoteRequest, NoteResult,
    Objection, ObjectionKind, ObjectionOutcome, ParkedNote, Sealed, Sentiment, SentimentLabel,
    Speaker, Started, Tip, Topic, Utterance,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Row};

pub const COACH: &str = env!("CARGO_BIN_EXE_coach");
pub const SOON: Duration = Duration::from_secs(120);
pub const START: i64 = 1_790_000_000_000;

pub struct Scene {
    pub kafka: Kafka,
    pub codec: Arc<Codec>,
    pub producer: Producer,
    pub database: String,
    pub environment: Vec<(&'static str, String)>,
}

impl Scene {
    pub async fn new() -> Self {
        let kafka = Kafka {
            bootstrap: harness::kafka().await.bootstrap().to_owned(),
            prefix: format!("{}.", unique("replay")),
            ..Kafka::default()
        };
        let database = harness::postgres().await.create_database().await;
        let environment = vec![
            ("SALES_COACH__KAFKA__BOOTSTRAP", kafka.bootstrap.clone()),
            ("SALES_COACH__KAFKA__PREFIX", kafka.prefix.clone()),
            ("SALES_COACH__DATABASE__URL", database.clone()),
            ("SALES_COACH_MASTER_KEY", MasterKey::generate().to_string()),
            ("SALES_COACH__GATEWAY__LISTEN", "127.0.0.1:0".to_owned()),
            (
                "SALES_COACH__GATEWAY__TOKEN_SECRET",
                "a secret of this test, of enough bytes".to_owned(),
            ),
            ("SALES_COACH__TELEMETRY__LISTEN", "127.0.0.1:0".to_owned()),
            ("USER", "ana".to_owned()),
        ];
        let codec = Arc::new(Codec::new().unwrap());
        let producer = Producer::new(&kafka, Arc::clone(&codec)).unwrap();
        pipeline::topics::create(&kafka).await.unwrap();
        let names: Vec<String> = pipeline::topics::wanted(&kafka)
            .into_iter()
            .map(|topic| topic.name)
            .collect();
        kafka.wait_for_topics(&names).await.unwrap();
        Self {
            kafka,
            codec,
            producer,
            database,
            environment,
        }
    }

    pub fn spawn(&self, arguments: &[&str]) -> Process {
        let pairs: Vec<_> = self
            .environment
            .iter()
            .map(|(k, v)| (*k, v.as_str()))
            .collect();
        Process::spawn(COACH, arguments, &pairs)
    }

    /// Runs `coach` to its end: exit status, standard output, standard error.
    pub async fn coach(&self, arguments: &[&str]) -> (ExitStatus, String, String) {
        let mut process = self.spawn(arguments);
        let status = process.wait(SOON).await;
        (status, process.stdout(), process.stderr())
    }

    /// Runs `coach replay` and asks that it succeeds.
    pub async fn replay(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.coach(&[&["replay"], arguments].concat()).await;
        assert!(
            status.success(),
            "{arguments:?}: {status}\n{stdout}\n{stderr}"
        );
        stdout
    }

    /// The journal's replays, as `coach replay status --json` shows them.
    pub async fn journal(&self) -> Vec<Value> {
        let lines = self.replay(&["status", "--json"]).await;
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until a replay counts as stopped.
    pub async fn stopped(&self, id: &str) {
        harness::eventually(SOON, "it is seen to have stopped", async || {
            let journal = self.journal().await;
            let replay = journal.iter().find(|replay| replay["id"] == id)?;
            (replay["standing"] == "stopped").then_some(())
        })
        .await;
    }

    /// Waits until a replay that runs has done something; gives its id.
    pub async fn half_way(&self) -> String {
        harness::eventually(SOON, "it is half way", async || {
            let journal = self.journal().await;
            let replay = journal
                .iter()
                .find(|replay| replay["standing"] == "running")?;
            let begun = replay["done"].as_u64()? > 0;
            begun.then(|| replay["id"].as_str().map(str::to_owned))?
        })
        .await
    }

    pub async fn pool(&self) -> PgPool {
        PgPool::connect(&self.database).await.unwrap()
    }

    pub async fn write(&self, event: &AnyEvent) {
        let trace = TraceContext::default();
        let sent = match event {
            AnyEvent::Audio(event) => self.producer.send(event, &trace).await,
            AnyEvent::Transcript(event) => self.producer.send(event, &trace).await,
            AnyEvent::Insight(event) => self.producer.send(event, &trace).await,
            AnyEvent::Tip(event) => self.producer.send(event, &trace).await,
            AnyEvent::Feedback(event) => self.producer.send(event, &trace).await,
            AnyEvent::NoteRequest(event) => self.producer.send(event, &trace).await,
            AnyEvent::ParkedNote(event) => self.producer.send(event, &trace).await,
            AnyEvent::Note(event) => self.producer.send(event, &trace).await,
        };
        sent.unwrap();
    }

    pub async fn write_all(&self, events: &[AnyEvent]) {
        for event in events {
            self.write(event).await;
        }
    }

    /// Writes a record with headers to any topic.
    pub async fn write_raw<T: Item>(
        &self,
        topic: &str,
        event: &Event<T>,
        headers: &[(&str, &str)],
    ) {
        let producer: FutureProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.bootstrap)
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        let payload = self.codec.encode(event).unwrap();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
        let record = FutureRecord::to(topic)
            .key(&event.head.call_id)
            .payload(&payload)
            .headers(headers);
        producer.send(record, SOON).await.unwrap();
    }

    /// All events of topics, in the order of each partition.
    pub async fn events(&self, topics: &[Topic]) -> Vec<Envelope<AnyEvent>> {
        let decoder = Decoder::new(Arc::clone(&self.codec), None);
        let reader = Reader::open(
            &self.kafka,
            decoder,
            topics,
            From::Beginning,
            Replayed::Read,
        );
        let mut reader = reader.await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = reader.next_present().await {
            events.push(event.unwrap());
        }
        events
    }
}

/// Headers that mark a record as of this replay.
pub fn marked(mark: &Mark) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (header::ID, mark.id.clone()),
        (header::KIND, mark.kind.as_str().to_owned()),
    ];
    headers.extend(mark.stage.clone().map(|stage| (header::STAGE, stage)));
    if mark.effects {
        headers.push((header::EFFECTS, "yes".to_owned()));
    }
    headers
}

/// Every row of every reporting table as text.
pub async fn rows(pool: &PgPool) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for table in TABLES {
        let statement = format!("SELECT row_to_json(t)::text FROM {table} t");
        let found = sqlx::query(AssertSqlSafe(statement))
            .fetch_all(pool)
            .await
            .unwrap();
        for row in found {
            rows.insert(format!("{table}: {}", row.get::<String, _>(0)));
        }
    }
    rows
}

pub const TABLES: [&str; 11] = [
    "calls",
    "call_stories",
    "audio_received",
    "utterances",
    "insights",
    "objections",
    "objection_outcomes",
    "conversations",
    "tips",
    "feedback",
    "note_results",
];

// === Calls ===

pub fn head(topic: &str, tenant: &str, call: &str, index: u32) -> Head {
    Head {
        event_id: EventId::derive(topic, call, index),
        call_id: call.to_owned(),
        tenant: tenant.to_owned(),
        time: START + i64::from(index) * 20_000,
    }
}

pub fn started() -> Started {
    Started {
        rep: "ana".into(),
        customer: Some(Sealed(b"sealed".to_vec())),
        language: "auto".into(),
        source: "wav".into(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        started_at: START,
    }
}

pub fn ended(utterances: i32) -> Ended {
    Ended {
        reason: EndReason::Hangup,
        duration_ms: 600,
        utterances: Some(utterances),
        transcribed_ms: Some(600),
        conversation: Some(Conversation::default()),
        objections: Some(vec![ObjectionOutcome {
            kind: ObjectionKind::Price,
            raised: 1,
            answered: true,
        }]),
        next_step: Some(true),
    }
}

fn story<T: Item>(
    tenant: &str,
    call: &str,
    items: Vec<T>,
    any: fn(Event<T>) -> AnyEvent,
) -> Vec<AnyEvent> {
    let count = i32::try_from(items.len()).unwrap();
    let mut bodies = vec![Body::Started(started())];
    bodies.extend(items.into_iter().map(Body::Item));
    bodies.push(Body::Ended(ended(count)));
    let event = |(index, body): (usize, Body<T>)| {
        let head = head(T::TOPIC.name, tenant, call, u32::try_from(index).unwrap());
        any(Event { head, body })
    };
    bodies.into_iter().enumerate().map(event).collect()
}

/// The insight on the `n`th utterance of a call: the customer objects in this way.
pub fn insight(call: &str, n: u32, kind: ObjectionKind, language: Language) -> Insight {
    Insight {
        utterance_id: EventId::derive("calls.transcript", call, n),
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: i64::from(n) * 20_000,
        end_ms: i64::from(n) * 20_000 + 900,
        language,
        words: 5,
        sentiment: Sentiment {
            label: SentimentLabel::Negative,
            score: 0.75,
            polarity: -0.5,
        },
        objections: vec![Objection { kind, score: 0.9 }],
        next_step: false,
        interest: n == 2,
        conversation: Conversation::default(),
    }
}

/// A call's insights topic.
pub fn insights(tenant: &str, call: &str, found: &[(ObjectionKind, Language)]) -> Vec<AnyEvent> {
    let items = found.iter().enumerate().map(|(n, (kind, language))| {
        insight(call, u32::try_from(n).unwrap() + 1, *kind, *language)
    });
    story(tenant, call, items.collect(), AnyEvent::Insight)
}

pub fn utterance(n: u32) -> Utterance {
    Utterance {
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: i64::from(n) * 20_000,
        end_ms: i64::from(n) * 20_000 + 900,
        language: Language::En,
        words: 5,
        text: Sealed(vec![u8::try_from(n).unwrap_or(0); 40]),
    }
}

pub fn tip(call: &str, n: u32) -> Tip {
    Tip {
        utterance_id: Some(EventId::derive("calls.transcript", call, n)),
        rule: "price".into(),
        playbook: "default".into(),
        playbook_version: "1".into(),
        objection: Some(ObjectionKind::Price),
        title: "Price".into(),
        say: "Let's see".into(),
        ask: "What does it cost?".into(),
        language: Language::En,
        priority: 1,
        spoken_at: START,
        expires_at: START + 20_000,
    }
}

pub fn feedback(tenant: &str, call: &str, action: Action, index: u32) -> Event<Feedback> {
    Event {
        head: head("coaching.feedback", tenant, call, index),
        body: Body::Item(Feedback {
            tip_id: EventId::derive("coaching.tips", call, 1),
            rep: "ana".into(),
            action,
        }),
    }
}

/// A call's note: asked for, parked and written.
fn note(tenant: &str, call: &str) -> [AnyEvent; 3] {
    let request = NoteRequest {
        cause: NoteCause::Ended,
        outcome: None,
    };
    let parked = ParkedNote {
        crm: Crm::Hubspot,
        cause: NoteCause::Ended,
        reason: "down".into(),
        until: 0,
        times: 1,
    };
    let written = Note {
        crm: Crm::Hubspot,
        result: NoteResult::Written,
        crm_id: Some("1".into()),
        attempts: 1,
        latency_ms: Some(100),
        reason: None,
        until: None,
    };
    [
        AnyEvent::NoteRequest(Event {
            head: head("crm.requests", tenant, call, 0),
            body: Body::Item(request),
        }),
        AnyEvent::ParkedNote(Event {
            head: head("crm.parked", tenant, call, 0),
            body: Body::Item(parked),
        }),
        AnyEvent::Note(Event {
            head: head("crm.notes", tenant, call, 0),
            body: Body::Item(written),
        }),
    ]
}

/// A whole call: what every topic tells of it.
pub fn call(tenant: &str, call: &str) -> Vec<AnyEvent> {
    let chunk = |n: i64| Chunk {
        offset_ms: n * 100,
        duration_ms: 100,
        sample_rate: 8000,
        encoding: Encoding::PcmS16le,
        audio: Sealed(vec![0; 200]),
    };
    let found = [
        ObjectionKind::Price,
        ObjectionKind::Stall,
        ObjectionKind::Trust,
    ];
    let mut events = story(tenant, call, (0..6).map(chunk).collect(), AnyEvent::Audio);
    events.extend(story(
        tenant,
        call,
        (1..=3).map(utterance).collect(),
        AnyEvent::Transcript,
    ));
    events.extend(insights(
        tenant,
        call,
        &found.map(|kind| (kind, Language::Es)),
    ));
    events.extend(story(
        tenant,
        call,
        (1..=2).map(|n| tip(call, n)).collect(),
        AnyEvent::Tip,
    ));
    for (index, action) in [Action::Shown, Action::Used].into_iter().enumerate() {
        let index = u32::try_from(index).unwrap();
        events.push(AnyEvent::Feedback(feedback(tenant, call, action, index)));
    }
    events.extend(note(tenant, call));
    events
}
