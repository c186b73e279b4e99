//! A scene of its own for each test: topics on real Kafka, calls to write, stages to run.

use std::sync::Arc;
use std::time::Duration;

use harness::{Process, eventually, unique};
use pipeline::reader::{From, Replayed};
use pipeline::runner::{self, RunError, Settings};
use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::telemetry::Health;
use pipeline::{
    Decoder, Deps, Envelope, Kafka, Producer, Reader, SchemaSource, Sealer, Sink, Stage,
    TraceContext, sink,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::{
    AnyEvent, Body, Codec, EndReason, Ended, Event, EventId, Head, Language, Sealed, Speaker,
    Started, Utterance, topics,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Partitions of each topic.
pub const PARTITIONS: i32 = 4;

/// What a stage in a process of its own is told, as JSON in this variable.
pub const TOLD: &str = "EXACTLY_ONCE_STAGE";

pub struct Scene {
    pub kafka: Kafka,
    pub settings: Settings,
    pub codec: Arc<Codec>,
    /// Asked by stages and sinks for schemas that they do not know.
    pub registry: Option<Arc<dyn SchemaSource>>,
    producer: Producer,
}

/// A stage or sink running in this process.
pub struct Running {
    pub metrics: prometheus::Registry,
    health: Health,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Scene {
    pub async fn new(bootstrap: &str) -> Self {
        let kafka = Kafka {
            bootstrap: bootstrap.to_owned(),
            prefix: format!("{}.", unique("scene")),
            ..Kafka::default()
        };
        create_topics(&kafka).await;
        Self::on(kafka).await
    }

    /// A scene on topics that are made already.
    pub async fn on(kafka: Kafka) -> Self {
        kafka.wait_for_topics(&topic_names(&kafka)).await.unwrap();
        let settings = Settings {
            session_timeout_ms: 3_000,
            transaction_timeout_ms: 3_000,
            retry_ms: 20,
            ..Settings::default()
        };
        let codec = Arc::new(Codec::new().unwrap());
        let producer = Producer::new(&kafka, Arc::clone(&codec)).unwrap();
        Self {
            kafka,
            settings,
            codec,
            registry: None,
            producer,
        }
    }

    /// Writes events of any calls, each call's in order.
    pub async fn write(&self, events: &[Event<Utterance>]) {
        for event in events {
            let trace = TraceContext {
                traceparent: format!("00-{:032x}-00000000000000aa-01", 7),
            };
            self.producer.send(event, &trace).await.unwrap();
        }
    }

    /// Writes events with a pause before each.
    pub async fn write_slowly(&self, events: &[Event<Utterance>], pause: Duration) {
        for event in events {
            tokio::time::sleep(pause).await;
            self.write(std::slice::from_ref(event)).await;
        }
    }

    /// Writes bytes that need not be an event.
    pub async fn write_raw(&self, partition: i32, key: &str, bytes: &[u8]) {
        use rdkafka::producer::{FutureProducer, FutureRecord};
        let producer: FutureProducer = self.client().create().unwrap();
        let topic = self.kafka.topic(&topics::CALLS_TRANSCRIPT);
        let record = FutureRecord::to(&topic)
            .partition(partition)
            .key(key)
            .payload(bytes);
        producer.send(record, DEADLINE).await.unwrap();
    }

    /// Deletes all records of the input topic.
    pub async fn forget_input(&self) {
        let mut all = TopicPartitionList::new();
        let topic = self.kafka.topic(&topics::CALLS_TRANSCRIPT);
        for partition in 0..PARTITIONS {
            all.add_partition_offset(&topic, partition, Offset::End)
                .unwrap();
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let deleted = admin.delete_records(&all, &AdminOptions::new()).await;
        for partition in deleted.unwrap().elements() {
            partition.error().unwrap();
        }
    }

    /// What the stage has committed to its output, in the order of each partition.
    pub async fn output(&self) -> Vec<Envelope<AnyEvent>> {
        let decoder = Decoder::new(Arc::clone(&self.codec), None);
        let topics = [topics::CALLS_INSIGHTS];
        let mut reader = Reader::open(
            &self.kafka,
            decoder,
            &topics,
            From::Beginning,
            Replayed::Read,
        )
        .await
        .unwrap();
        let mut events = Vec::new();
        while let Some(event) = reader.next_present().await {
            events.push(event.unwrap());
        }
        events
    }

    /// Waits until the output has at least so many events.
    pub async fn output_of(&self, count: usize) -> Vec<Envelope<AnyEvent>> {
        let what = format!("{count} events of output");
        eventually(DEADLINE, &what, async || {
            let output = self.output().await;
            (output.len() >= count).then_some(output)
        })
        .await
    }

    /// The output of the same events in a scene where nothing disturbs the stage.
    pub async fn undisturbed(&self, events: &[Event<Utterance>]) -> Vec<Envelope<AnyEvent>> {
        let scene = Scene::new(&self.kafka.bootstrap).await;
        let stage = scene.run(crate::stages::Counter::default());
        scene.write(events).await;
        let output = scene.output_of(events.len()).await;
        stage.stop().await.unwrap();
        output
    }

    /// The dead letters of the input topic, of which there are at least so many.
    pub async fn dead_letters(&self, count: usize) -> Vec<OwnedMessage> {
        let topic = self.kafka.dead(&topics::CALLS_TRANSCRIPT);
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", unique("dead"))
            .set("isolation.level", "read_committed")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(&topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut letters = Vec::new();
        let what = format!("{count} dead letters");
        eventually(DEADLINE, &what, async || {
            while let Some(letter) = consumer.poll(Duration::from_millis(200)) {
                letters.push(letter.unwrap().detach());
            }
            (letters.len() >= count).then_some(())
        })
        .await;
        letters
    }

    /// Committed offset and its metadata of each partition of the input topic that has one.
    pub async fn committed(&self, group: &str) -> Vec<(i32, i64, String)> {
        let topic = self.kafka.topic(&topics::CALLS_TRANSCRIPT);
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", self.kafka.group(group))
            .set("isolation.level", "read_committed")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_range(&topic, 0, PARTITIONS - 1);
        let committed = consumer.committed_offsets(all, DEADLINE).unwrap();
        let elements = committed.elements();
        let committed = elements.iter().filter_map(|e| match e.offset() {
            Offset::Offset(offset) => Some((e.partition(), offset, e.metadata().to_owned())),
            _ => None,
        });
        committed.collect()
    }

    /// Runs a stage in this process.
    pub fn run<S: Stage>(&self, stage: S) -> Running {
        let (kafka, settings, deps) = (self.kafka.clone(), self.settings.clone(), self.deps());
        let (stop, metrics) = (CancellationToken::new(), deps.metrics.clone());
        let health = deps.health.clone();
        // As the process does before it opens the stage.
        health.part(S::NAME);
        let token = stop.clone();
        let task =
            tokio::spawn(async move { runner::run(stage, &kafka, &settings, &deps, token).await });
        Running {
            metrics,
            health,
            stop,
            task,
        }
    }

    /// Runs a sink in this process.
    pub fn run_sink<S: Sink>(&self, stage: S) -> Running {
        let (kafka, settings, deps) = (self.kafka.clone(), self.settings.clone(), self.deps());
        let (stop, metrics) = (CancellationToken::new(), deps.metrics.clone());
        let health = deps.health.clone();
        // As the process does before it opens the stage.
        health.part(S::NAME);
        let token = stop.clone();
        let task =
            tokio::spawn(async move { sink::run(stage, &kafka, &settings, &deps, token).await });
        Running {
            metrics,
            health,
            stop,
            task,
        }
    }

    /// Runs [`crate::stages::Counter`] in a process of its own.
    pub fn spawn(&self, instance: Option<&str>) -> Process {
        let program = std::env::current_exe().unwrap();
        let mut settings = self.settings.clone();
        settings.instance = instance.map(str::to_owned);
        let told = serde_json::json!({"kafka": self.kafka, "settings": settings}).to_string();
        let arguments = ["--exact", "stage_process", "--ignored", "--nocapture"];
        Process::spawn(program.to_str().unwrap(), &arguments, &[(TOLD, &told)])
    }

    pub fn deps(&self) -> Deps {
        Deps {
            registry: self.registry.clone(),
            ..deps(Arc::new(Codec::new().unwrap()))
        }
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka.bootstrap);
        config
    }
}

impl Running {
    /// Waits until it is ready, or is not any more.
    pub async fn until_ready(&self, ready: bool) {
        let what = format!("ready is {ready}");
        eventually(DEADLINE, &what, async || {
            (self.health.unready().is_empty() == ready).then_some(())
        })
        .await;
    }

    /// Stops it in good order.
    pub async fn stop(self) -> Result<(), RunError> {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("the stage ends in time")
            .unwrap()
    }

    /// The sum of a counter over all its labels but these.
    pub fn counted(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(|family| family.get_metric());
        let wanted = metrics.filter(|metric| {
            label.is_none_or(|(name, value)| {
                let mut labels = metric.get_label().iter();
                labels.any(|pair| pair.name() == name && pair.value() == value)
            })
        });
        wanted.map(|metric| metric.get_counter().get_value()).sum()
    }
}

pub fn deps(codec: Arc<Codec>) -> Deps {
    sqlx::any::install_default_drivers();
    let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
    Deps {
        codec,
        registry: None,
        sealer: Sealer::new(master, MemoryKeys::default()),
        cache: std::env::temp_dir(),
        health: Health::default(),
        metrics: prometheus::Registry::new(),
        database: sqlx::AnyPool::connect_lazy("sqlite::memory:").unwrap(),
    }
}

async fn create_topics(kafka: &Kafka) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let names = topic_names(kafka);
    let new = names
        .each_ref()
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    let made = admin.create_topics(&new, &AdminOptions::new()).await;
    for topic in made.unwrap() {
        topic.unwrap();
    }
}

/// The topics of a scene: input, output, and their dead letters.
pub fn topic_names(kafka: &Kafka) -> [String; 4] {
    let (input, output) = (topics::CALLS_TRANSCRIPT, topics::CALLS_INSIGHTS);
    [
        kafka.topic(&input),
        kafka.dead(&input),
        kafka.topic(&output),
        kafka.dead(&output),
    ]
}

// === Calls ===

const BEGUN: i64 = 1_790_000_000_000;

fn event(call: &str, index: u32, body: Body<Utterance>) -> Event<Utterance> {
    Event {
        head: Head {
            event_id: EventId::derive("test", call, index),
            call_id: call.to_owned(),
            tenant: "acme".to_owned(),
            time: BEGUN + i64::from(index) * 1_000,
        },
        body,
    }
}

pub fn started(call: &str) -> Event<Utterance> {
    let started = Started {
        rep: "rep-1".to_owned(),
        customer: None,
        language: "en".to_owned(),
        source: "test".to_owned(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        started_at: BEGUN,
    };
    event(call, 0, Body::Started(started))
}

/// The `index`th utterance of a call, from 1.
pub fn utterance(call: &str, index: u32, text: &str) -> Event<Utterance> {
    let utterance = Utterance {
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: i64::from(index) * 1_000,
        end_ms: i64::from(index) * 1_000 + 900,
        language: Language::En,
        words: 1,
        text: Sealed(text.as_bytes().to_vec()),
    };
    event(call, index, Body::Item(utterance))
}

pub fn ended(call: &str) -> Event<Utterance> {
    let ended = Ended {
        reason: EndReason::Hangup,
        duration_ms: 60_000,
        utterances: None,
        transcribed_ms: None,
        conversation: None,
        objections: None,
        next_step: None,
    };
    event(call, u32::MAX, Body::Ended(ended))
}

/// Whole calls, their events interleaved as if they went on side by side.
pub fn calls(count: u32, utterances: u32) -> Vec<Event<Utterance>> {
    calls_named("call", count, utterances)
}

/// Whole calls of another name.
pub fn calls_named(name: &str, count: u32, utterances: u32) -> Vec<Event<Utterance>> {
    let names: Vec<String> = (0..count).map(|n| format!("{name}-{n}")).collect();
    let mut events: Vec<_> = names.iter().map(|call| started(call)).collect();
    for index in 1..=utterances {
        events.extend(
            names
                .iter()
                .map(|call| utterance(call, index, &format!("words {index} of {call}"))),
        );
    }
    events.extend(names.iter().map(|call| ended(call)));
    events
}

/// Event ids and contents, each call's in order.
pub fn stories(output: &[Envelope<AnyEvent>]) -> Vec<(String, AnyEvent)> {
    let mut stories: Vec<(String, AnyEvent)> = output
        .iter()
        .map(|e| (e.event.head().call_id.clone(), e.event.clone()))
        .collect();
    stories.sort_by(|a, b| a.0.cmp(&b.0));
    stories
}
