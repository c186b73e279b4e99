//! What runs are played on: three brokers and a database, and to both of them a way of its own for
//! every process, which can be cut.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use harness::{Flow, Kafka, Postgres, Way, Wire, unique};
use pipeline::config::DatabaseUrl;
use pipeline::database::{self, DatabaseSettings};
use pipeline::seal::{DatabaseKeys, MasterKey};
use pipeline::{Field, Sealer, topics};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::{
    Body, Codec, EndReason, Ended, Event, EventId, Head, Item, Language, Sealed, Speaker, Started,
    Utterance, count_words,
};

use crate::load::{Load, Sentence, What};
use crate::timeline::{Cut, INSTANCES, STAGES, Slot};

pub const BROKERS: usize = 3;
/// Of every topic.
pub const PARTITIONS: i32 = 4;
pub const TENANT: &str = "acme";
/// Signs the softphones' tokens; known to these tests only.
pub const TOKEN_SECRET: &str = "a secret of the fault runs, of enough bytes";

/// How much faster call time goes by than the run.
const STRETCH: u32 = 6;
/// How long before now the calls begin, in milliseconds: all of their times are past.
const AGO_MS: i64 = 10 * 60 * 1_000;
/// So that no tip expires during a run, however long something is away.
const EXPIRES_AFTER: &str = "expires_after: 1h";

/// Brokers, database, and ways to them.
pub struct Stand {
    pub kafka: Kafka,
    pub postgres: Postgres,
    ways: Vec<Way>,
    wires: Vec<Wire>,
    master_key: String,
    folder: tempfile::TempDir,
}

/// Where one run is played: topics and a database of its own.
#[derive(Clone)]
pub struct Scene {
    pub kafka: pipeline::Kafka,
    pub database: String,
    master_key: String,
}

/// A record to write.
#[derive(Clone)]
pub struct Record {
    pub at: Duration,
    pub key: String,
    pub payload: Option<Vec<u8>>,
}

impl Stand {
    /// Starts everything, which takes some 20 seconds.
    pub async fn start() -> Self {
        let processes = STAGES.len() * INSTANCES;
        let ((kafka, ways), postgres) = tokio::join!(
            Kafka::start_with_ways(BROKERS, processes),
            Postgres::start()
        );
        let mut wires = Vec::new();
        for _ in 0..processes {
            wires.push(Wire::to(postgres.port()).await);
        }
        let stand = Self {
            kafka,
            postgres,
            ways,
            wires,
            master_key: MasterKey::generate().to_string(),
            folder: tempfile::tempdir().unwrap(),
        };
        for version in [1, 2] {
            let shipped = harness::checkout().join("consumers/coaching/default.yaml");
            let shipped = std::fs::read_to_string(shipped).unwrap();
            let playbook = playbook(&shipped, version);
            std::fs::write(stand.playbook(version), playbook).unwrap();
        }
        stand
    }

    /// The file of the playbook's version, 1 or 2: the one that ships, whose tips never expire
    /// within a run. The two differ in nothing but their version.
    pub fn playbook(&self, version: u32) -> PathBuf {
        self.folder.path().join(format!("playbook-{version}.yaml"))
    }

    /// Topics and a database for one run; `keys` is a database with the data keys of its calls.
    pub async fn scene(&self, keys: &str) -> Scene {
        let kafka = pipeline::Kafka {
            bootstrap: self.kafka.bootstrap().to_owned(),
            prefix: format!("{}.", unique("run")),
            replication: BROKERS as i32,
            ..pipeline::Kafka::default()
        };
        let scene = Scene {
            kafka,
            database: self.postgres.copy_database(keys).await,
            master_key: self.master_key.clone(),
        };
        scene.create_topics().await;
        scene
    }

    /// Makes the records of a load, and a database with the keys that they are sealed with.
    pub async fn records(&self, load: &Load) -> (Vec<Record>, String) {
        let url = self.postgres.create_database().await;
        let pool = pool(&url).await;
        let keys = DatabaseKeys::open(pool.clone()).await.unwrap();
        let sealer = Sealer::new(MasterKey::from_base64(&self.master_key).unwrap(), keys);
        let writer = Writer {
            codec: Codec::new().unwrap(),
            began: pipeline::clock::now() - AGO_MS,
            load,
        };
        let mut records: Vec<Record> = Vec::new();
        let mut said = std::collections::HashMap::new();
        for step in &load.steps {
            let call = call_id(load.seed, step.call);
            let payload = match &step.what {
                What::Poison(bytes) => bytes.clone(),
                What::Again(number) => said.get(&(step.call, *number)).cloned(),
                What::Started => Some(writer.started(step.call, step.at)),
                What::Ended => Some(writer.ended(step.call, step.at)),
                What::Said(number, sentence) => {
                    let key = sealer.create(TENANT, &call).await.unwrap();
                    let text = key.seal(Field::TEXT, sentence.text.as_bytes()).unwrap();
                    let bytes = writer.said(step.call, *number, step.at, sentence, text);
                    said.insert((step.call, *number), bytes.clone());
                    Some(bytes)
                }
            };
            records.push(Record {
                at: step.at,
                key: call,
                payload,
            });
        }
        pool.close().await;
        (records, url)
    }

    /// What a process is told: where it finds brokers and database, over ways of its own when it
    /// has a slot.
    pub fn environment(&self, scene: &Scene, slot: Option<Slot>) -> Vec<(String, String)> {
        let (mut bootstrap, mut database) = (scene.kafka.bootstrap.clone(), scene.database.clone());
        if let Some(slot) = slot {
            bootstrap = self.ways[index(slot)].bootstrap();
            let straight = format!(":{}/", self.postgres.port());
            let wire = format!(":{}/", self.wires[index(slot)].port());
            database = database.replace(&straight, &wire);
        }
        [
            ("SALES_COACH__KAFKA__BOOTSTRAP", bootstrap),
            ("SALES_COACH__KAFKA__PREFIX", scene.kafka.prefix.clone()),
            ("SALES_COACH__DATABASE__URL", database),
            ("SALES_COACH_MASTER_KEY", scene.master_key.clone()),
            (
                "SALES_COACH__GATEWAY__TOKEN_SECRET",
                TOKEN_SECRET.to_owned(),
            ),
            ("SALES_COACH__GATEWAY__HEARTBEAT", "2s".to_owned()),
            ("SALES_COACH__INSIGHTS__WORKERS", "1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Cuts a process off from the brokers, or not any more.
    pub fn cut_brokers(&self, slot: Slot, cut: Option<Cut>) {
        for wire in &self.ways[index(slot)].wires {
            wire.set(flow(cut));
        }
    }

    /// Cuts a process off from the database, or not any more.
    pub fn cut_database(&self, slot: Slot, cut: Option<Cut>) {
        self.wires[index(slot)].set(flow(cut));
    }

    /// Makes the database answer so much later.
    pub fn slow_database(&self, delay: Duration) {
        let flow = Flow {
            delay: delay / 2,
            ..Flow::default()
        };
        self.wires.iter().for_each(|wire| wire.set(flow));
    }
}

fn index(slot: Slot) -> usize {
    let stage = STAGES.iter().position(|stage| *stage == slot.stage);
    stage.unwrap() * INSTANCES + slot.instance
}

fn flow(cut: Option<Cut>) -> Flow {
    Flow {
        cut_up: matches!(cut, Some(Cut::Both | Cut::Up)),
        cut_down: matches!(cut, Some(Cut::Both | Cut::Down)),
        delay: Duration::ZERO,
    }
}

fn playbook(shipped: &str, version: u32) -> String {
    let line = |line: &str| {
        if line.starts_with("version:") {
            return format!("version: \"{version}\"");
        }
        match line.split_once("expires_after:") {
            Some((indent, _)) => format!("{indent}{EXPIRES_AFTER}"),
            None => line.to_owned(),
        }
    };
    let lines: Vec<String> = shipped.lines().map(line).collect();
    lines.join("\n")
}

/// A pool of connections to a database.
pub async fn pool(url: &str) -> sqlx::AnyPool {
    let settings = DatabaseSettings {
        url: DatabaseUrl::new(url),
        connections: 2,
    };
    database::connect(&settings).await.unwrap()
}

impl Scene {
    async fn create_topics(&self) {
        let admin = self.admin();
        let wanted = topics::wanted(&self.kafka);
        let new = wanted.iter().map(|topic| {
            let copies = TopicReplication::Fixed(self.kafka.replication);
            NewTopic::new(&topic.name, PARTITIONS, copies)
        });
        let new: Vec<_> = new.collect();
        let made = admin.create_topics(&new, &AdminOptions::new()).await;
        for topic in made.unwrap() {
            topic.unwrap();
        }
        let names: Vec<String> = wanted.into_iter().map(|topic| topic.name).collect();
        self.kafka.wait_for_topics(&names).await.unwrap();
    }

    /// Deletes the topics, so that a hundred runs fit on one cluster.
    pub async fn clear(&self) {
        let wanted = topics::wanted(&self.kafka);
        let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
        let deleted = self
            .admin()
            .delete_topics(&names, &AdminOptions::new())
            .await;
        for topic in deleted.unwrap() {
            topic.unwrap();
        }
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.kafka.client(&[]).create().unwrap()
    }
}

/// The id of a run's call.
pub fn call_id(seed: u64, call: usize) -> String {
    format!("call-{seed}-{call}")
}

/// The rep of a run's call, who has no other.
pub fn rep(call: &str) -> String {
    format!("rep-of-{call}")
}

/// The id of an event that a producer writes: its place in the call.
pub fn event_id(call: &str, place: usize) -> EventId {
    EventId::derive(Utterance::TOPIC.name, call, place as u32)
}

/// Writes a load's events.
struct Writer<'a> {
    codec: Codec,
    /// When the load begins, in milliseconds since 1970.
    began: i64,
    load: &'a Load,
}

impl Writer<'_> {
    fn event(&self, call: usize, place: usize, at: Duration, body: Body<Utterance>) -> Vec<u8> {
        let call_id = call_id(self.load.seed, call);
        let event = Event {
            head: Head {
                event_id: event_id(&call_id, place),
                call_id,
                tenant: TENANT.to_owned(),
                time: self.began + millis(at * STRETCH),
            },
            body,
        };
        self.codec.encode(&event).unwrap()
    }

    /// Where in the run a call begins.
    fn begin(&self, call: usize) -> Duration {
        let mut steps = self.load.steps.iter();
        steps.find(|step| step.call == call).unwrap().at
    }

    fn started(&self, call: usize, at: Duration) -> Vec<u8> {
        let started = Started {
            rep: rep(&call_id(self.load.seed, call)),
            customer: None,
            language: "auto".to_owned(),
            source: "transcript".to_owned(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            started_at: self.began + millis(at * STRETCH),
        };
        self.event(call, 0, at, Body::Started(started))
    }

    fn said(
        &self,
        call: usize,
        number: usize,
        at: Duration,
        sentence: &Sentence,
        text: Sealed,
    ) -> Vec<u8> {
        let end_ms = millis((at - self.begin(call)) * STRETCH);
        let language: Language = sentence.language;
        let utterance = Utterance {
            channel: i32::from(sentence.speaker == Speaker::Customer),
            speaker: sentence.speaker,
            start_ms: (end_ms - 1_500).max(0),
            end_ms,
            language,
            words: count_words(&sentence.text, language),
            text,
        };
        self.event(call, number, at, Body::Item(utterance))
    }

    fn ended(&self, call: usize, at: Duration) -> Vec<u8> {
        let utterances = self.load.size.utterances;
        let ended = Ended {
            reason: EndReason::Hangup,
            duration_ms: millis((at - self.begin(call)) * STRETCH),
            utterances: i32::try_from(utterances).ok(),
            transcribed_ms: None,
            conversation: None,
            objections: None,
            next_step: None,
        };
        self.event(call, utterances + 1, at, Body::Ended(ended))
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

/// The project's own labelled sentences.
pub fn sentences() -> Arc<Vec<Sentence>> {
    let mut sentences = Vec::new();
    for language in Language::ALL {
        let path = harness::checkout().join(format!("models/data/{language}.jsonl"));
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let speaker = line["speaker"].as_str().and_then(|name| name.parse().ok());
            sentences.push(Sentence {
                text: line["text"].as_str().unwrap().to_owned(),
                language: *language,
                speaker: speaker.unwrap_or(Speaker::Customer),
            });
        }
    }
    Arc::new(sentences)
}
