//! A scene of its own for each test: topics, a database, tenants with their CRMs, calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consumers::crm::desk::Desk;
use consumers::crm::{self, Settings, client};
use consumers::registry::Process;
use crm_servers::hubspot::{self, HubSpot, Property};
use crm_servers::salesforce::{self, Field as Column, Kind as ColumnKind, Object, Salesforce};
use harness::{Process as Spawned, eventually, unique};
use pipeline::config::{Config, DatabaseUrl};
use pipeline::database::{self, DatabaseSettings};
use pipeline::reader::{From, Replayed};
use pipeline::seal::{DatabaseKeys, MasterKey};
use pipeline::telemetry::Health;
use pipeline::{
    Decoder, Deps, Envelope, Field, Kafka, Producer, Reader, Sealer, TraceContext, clock, runner,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::topics as table;
use schemas::{
    Action, AnyEvent, Body, Codec, Conversation, Crm, EndReason, Ended, Event, EventId, Feedback,
    Head, Insight, Item, Language, Note, NoteResult, Objection, ObjectionKind, ObjectionOutcome,
    Sentiment, SentimentLabel, Speaker, Started, Tip, Topic, Utterance,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// Partitions of each topic.
const PARTITIONS: i32 = 2;
/// What the customer says in every call, and who it is.
pub const SENTENCE: &str = "marmalade is far too expensive";
pub const CUSTOMER: &str = "Zebediah Quux";

pub struct Scene {
    pub kafka: Kafka,
    pub codec: Arc<Codec>,
    producer: Producer,
    sealer: Sealer,
    pool: sqlx::AnyPool,
    folder: TempDir,
    url: String,
    master: String,
    settings: BTreeMap<&'static str, String>,
}

/// An instance of the stage.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    pub metrics: prometheus::Registry,
}

impl Running {
    /// Stops in good order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Stops in the middle of whatever it does.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}

impl Scene {
    pub async fn new() -> Self {
        let kafka = Kafka {
            bootstrap: harness::kafka().await.bootstrap().to_owned(),
            prefix: format!("{}.", unique("crm")),
            ..Kafka::default()
        };
        create_topics(&kafka).await;
        let url = harness::postgres().await.create_database().await;
        let settings = DatabaseSettings {
            url: DatabaseUrl::new(url.clone()),
            connections: 12,
        };
        let pool = database::connect(&settings).await.unwrap();
        let keys = DatabaseKeys::open(pool.clone()).await.unwrap();
        let generated = MasterKey::generate().to_string();
        let master = MasterKey::from_base64(&generated).unwrap();
        let codec = Arc::new(Codec::new().unwrap());
        Self {
            producer: Producer::new(&kafka, Arc::clone(&codec)).unwrap(),
            kafka,
            codec,
            sealer: Sealer::new(master, keys),
            pool,
            folder: tempfile::tempdir().unwrap(),
            url,
            master: generated,
            settings: BTreeMap::from([
                ("PATIENCE", "2s".to_owned()),
                ("TIMEOUT", "2s".to_owned()),
                ("RETRY", "300ms".to_owned()),
                ("DAILY", "2s".to_owned()),
                ("SHUT", "1s".to_owned()),
                ("LOOK", "200ms".to_owned()),
            ]),
        }
    }

    /// Sets a key of `[crm]`.
    pub fn set(&mut self, key: &'static str, value: &str) {
        self.settings.insert(key, value.to_owned());
    }

    /// Section `[crm]` as variables of the environment.
    fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let folder = self.folder.path().display().to_string();
        self.settings
            .iter()
            .map(|(key, value)| (format!("SALES_COACH__CRM__{key}"), value.clone()))
            .chain([("SALES_COACH__CRM__TENANTS".to_owned(), folder)])
    }

    fn config(&self) -> Config {
        Config::load(None, self.variables()).unwrap()
    }

    fn deps(&self) -> Deps {
        Deps {
            codec: Arc::clone(&self.codec),
            registry: None,
            sealer: self.sealer.clone(),
            cache: std::env::temp_dir(),
            health: Health::default(),
            metrics: prometheus::Registry::new(),
            database: self.pool.clone(),
        }
    }

    /// What an administrator works with.
    pub async fn desk(&self) -> Desk {
        let settings: Settings = self.config().section("crm").unwrap();
        Desk::open(settings, &self.kafka, &self.deps())
            .await
            .unwrap()
    }

    /// A tenant with these CRMs in its file.
    pub async fn tenant(&self, name: &str, yaml: &str, secrets: &[(Crm, &str)]) {
        std::fs::write(self.folder.path().join(format!("{name}.yaml")), yaml).unwrap();
        let desk = self.desk().await;
        for (crm, secret) in secrets {
            desk.set_secret(name, *crm, secret).await.unwrap();
        }
    }

    /// A tenant whose CRM is that HubSpot; `more` is put under `hubspot`.
    pub async fn on_hubspot(&self, name: &str, portal: &HubSpot, top: &str, more: &str) {
        let yaml = format!("{top}\nhubspot:\n  url: {}\n{more}\n", portal.url());
        let token = portal.setup().private_app_token.clone();
        self.tenant(name, &yaml, &[(Crm::Hubspot, &token)]).await;
    }

    /// A tenant whose CRM is that Salesforce.
    pub async fn on_salesforce(&self, name: &str, org: &Salesforce) {
        let yaml = format!(
            "salesforce:\n  url: {}\n  client_id: {}\n  username: {}\n",
            org.url(),
            org.setup().client_id,
            org.setup().username
        );
        let key = org.private_key();
        self.tenant(name, &yaml, &[(Crm::Salesforce, key)]).await;
    }

    /// Runs an instance of the stage.
    pub fn run(&self) -> Running {
        let stop = CancellationToken::new();
        let deps = self.deps();
        let metrics = deps.metrics.clone();
        let process = Process {
            config: self.config(),
            kafka: self.kafka.clone(),
            runner: runner::Settings {
                session_timeout_ms: 6_000,
                retry_ms: 20,
                ..runner::Settings::default()
            },
            deps,
            shutdown: stop.clone(),
        };
        Running {
            task: tokio::spawn(crm::run(process)),
            stop,
            metrics,
        }
    }

    /// Runs an instance of the stage in a process of its own, under a name that it keeps.
    pub fn spawn(&self, instance: &str) -> Spawned {
        let mut variables = vec![
            (
                "SALES_COACH__KAFKA__BOOTSTRAP".to_owned(),
                self.kafka.bootstrap.clone(),
            ),
            (
                "SALES_COACH__KAFKA__PREFIX".to_owned(),
                self.kafka.prefix.clone(),
            ),
            ("SALES_COACH__DATABASE__URL".to_owned(), self.url.clone()),
            ("SALES_COACH_MASTER_KEY".to_owned(), self.master.clone()),
            (
                "SALES_COACH__RUNNER__INSTANCE".to_owned(),
                instance.to_owned(),
            ),
            (
                "SALES_COACH__RUNNER__SESSION_TIMEOUT_MS".to_owned(),
                "6000".to_owned(),
            ),
            ("SALES_COACH__RUNNER__RETRY_MS".to_owned(), "20".to_owned()),
            (
                "SALES_COACH__TELEMETRY__LISTEN".to_owned(),
                "127.0.0.1:0".to_owned(),
            ),
        ];
        variables.extend(self.variables());
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Spawned::spawn(env!("CARGO_BIN_EXE_coach"), &["run", "crm"], &variables)
    }

    /// Waits until the stage has done all that lies on its topics.
    pub async fn settled(&self, deadline: Duration) {
        eventually(deadline, "the stage has nothing left to do", async || {
            let behind = ["crm", "crm-writer", "crm-parking"].map(|sink| self.behind(sink));
            (behind.iter().sum::<i64>() == 0).then_some(())
        })
        .await;
    }

    /// How many records lie before a sink.
    fn behind(&self, sink: &str) -> i64 {
        let read: &[Topic] = match sink {
            "crm" => &[
                table::CALLS_TRANSCRIPT,
                table::CALLS_INSIGHTS,
                table::COACHING_TIPS,
                table::COACHING_FEEDBACK,
            ],
            "crm-writer" => &[table::CRM_REQUESTS],
            _ => &[table::CRM_PARKED],
        };
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.bootstrap)
            .set("group.id", self.kafka.group(sink))
            .create()
            .unwrap();
        let patience = Duration::from_secs(10);
        let mut behind = 0;
        for topic in read {
            let name = self.kafka.topic(topic);
            let metadata = consumer.fetch_metadata(Some(&name), patience).unwrap();
            for partition in metadata.topics()[0].partitions() {
                let (low, high) = consumer
                    .fetch_watermarks(&name, partition.id(), patience)
                    .unwrap();
                let mut asked = TopicPartitionList::new();
                asked.add_partition(&name, partition.id());
                let committed = consumer.committed_offsets(asked, patience).unwrap();
                let done = match committed.elements()[0].offset() {
                    Offset::Offset(done) => done,
                    _ => low,
                };
                behind += high - done;
            }
        }
        behind
    }

    async fn send<T: Item>(&self, event: &Event<T>) {
        let sent = self.producer.send(event, &TraceContext::start()).await;
        sent.unwrap();
    }

    /// A whole call that ends now.
    pub async fn call(&self, tenant: &str, call: &str) {
        self.call_of(tenant, call, CUSTOMER).await;
    }

    /// A whole call of that customer, that ends now.
    pub async fn call_of(&self, tenant: &str, call: &str, customer: &str) {
        let key = self.sealer.create(tenant, call).await.unwrap();
        let now = clock::now();
        let told = Told { tenant, call, now };
        let started = Started {
            rep: "ana".to_owned(),
            customer: Some(key.seal(Field::CUSTOMER, customer.as_bytes()).unwrap()),
            language: "en".to_owned(),
            source: "test".to_owned(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            started_at: now - 60_000,
        };
        let text = key.seal(Field::TEXT, SENTENCE.as_bytes()).unwrap();
        let utterance = told.event("said", Body::Item(utterance(text)));
        let utterance_id = utterance.head.event_id;
        self.send(&utterance).await;
        self.send(&told.event::<Utterance>("over transcript", Body::Ended(ended())))
            .await;
        self.send(&told.event::<Tip>("started", Body::Started(started)))
            .await;
        self.send(&told.event("tip", Body::Item(tip()))).await;
        self.send(&told.event::<Tip>("over tips", Body::Ended(ended())))
            .await;
        let found = told.event("found", Body::Item(insight(utterance_id)));
        self.send(&found).await;
        self.send(&told.event::<Insight>("over insights", Body::Ended(ended())))
            .await;
    }

    /// The rep uses the call's tip.
    pub async fn feedback(&self, tenant: &str, call: &str) {
        let now = clock::now();
        let told = Told { tenant, call, now };
        let feedback = Feedback {
            tip_id: told.id("tip"),
            rep: "ana".to_owned(),
            action: Action::Used,
        };
        self.send(&told.event("did", Body::Item(feedback))).await;
    }

    /// What lies on a topic now.
    pub async fn read(&self, topic: Topic) -> Vec<Envelope<AnyEvent>> {
        let decoder = Decoder::new(Arc::clone(&self.codec), None);
        let reader = Reader::open(
            &self.kafka,
            decoder,
            &[topic],
            From::Beginning,
            Replayed::Read,
        )
        .await;
        let mut reader = reader.unwrap();
        let mut all = Vec::new();
        while let Some(next) = reader.next_present().await {
            all.push(next.unwrap());
        }
        all
    }

    /// What `crm.notes` tells of so many notes with that result, once it does.
    pub async fn results(&self, result: NoteResult, count: usize) -> Vec<(String, Note)> {
        let what = format!("{count} notes {result}");
        eventually(DEADLINE, &what, async || {
            let told = self.read(table::CRM_NOTES).await.into_iter();
            let told = told.filter_map(|envelope| match envelope.event {
                AnyEvent::Note(Event {
                    head,
                    body: Body::Item(note),
                }) if note.result == result => Some((head.call_id, note)),
                _ => None,
            });
            let told: Vec<_> = told.collect();
            (told.len() >= count).then_some(told)
        })
        .await
    }
}

/// Few partitions: the tests share a broker, and each has its own topics.
async fn create_topics(kafka: &Kafka) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let needed = [
        table::CALLS_TRANSCRIPT,
        table::CALLS_INSIGHTS,
        table::COACHING_TIPS,
        table::COACHING_FEEDBACK,
        table::CRM_REQUESTS,
        table::CRM_PARKED,
        table::CRM_NOTES,
    ];
    let names = needed
        .iter()
        .flat_map(|topic| [kafka.topic(topic), kafka.dead(topic)]);
    let names: Vec<String> = names.collect();
    let new: Vec<_> = names
        .iter()
        .map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)))
        .collect();
    let made = admin.create_topics(&new, &AdminOptions::new()).await;
    for topic in made.unwrap() {
        topic.unwrap();
    }
    kafka.wait_for_topics(&names).await.unwrap();
}

/// Makes the events of a call.
struct Told<'a> {
    tenant: &'a str,
    call: &'a str,
    now: i64,
}

impl Told<'_> {
    fn id(&self, name: &str) -> EventId {
        EventId::derive("test", &format!("{} {name}", self.call), 0)
    }

    fn event<T: Item>(&self, name: &str, body: Body<T>) -> Event<T> {
        Event {
            head: Head {
                event_id: self.id(name),
                call_id: self.call.to_owned(),
                tenant: self.tenant.to_owned(),
                time: self.now,
            },
            body,
        }
    }
}

fn utterance(text: schemas::Sealed) -> Utterance {
    Utterance {
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: 1_000,
        end_ms: 2_000,
        language: Language::En,
        words: 5,
        text,
    }
}

fn insight(utterance_id: EventId) -> Insight {
    Insight {
        utterance_id,
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: 1_000,
        end_ms: 2_000,
        language: Language::En,
        words: 5,
        sentiment: Sentiment {
            label: SentimentLabel::Negative,
            score: 0.9,
            polarity: -0.7,
        },
        objections: vec![Objection {
            kind: ObjectionKind::Price,
            score: 0.9,
        }],
        next_step: false,
        interest: false,
        conversation: Conversation::default(),
    }
}

fn tip() -> Tip {
    Tip {
        utterance_id: None,
        rule: "price".to_owned(),
        playbook: "default".to_owned(),
        playbook_version: "1".to_owned(),
        objection: Some(ObjectionKind::Price),
        title: "Price".to_owned(),
        say: "Say".to_owned(),
        ask: "Ask?".to_owned(),
        language: Language::En,
        priority: 1,
        spoken_at: 0,
        expires_at: 0,
    }
}

fn ended() -> Ended {
    Ended {
        reason: EndReason::Hangup,
        duration_ms: 60_000,
        utterances: Some(1),
        transcribed_ms: None,
        conversation: Some(Conversation {
            talk_ratio: 0.5,
            ..Conversation::default()
        }),
        objections: Some(vec![ObjectionOutcome {
            kind: ObjectionKind::Price,
            raised: 1,
            answered: true,
        }]),
        next_step: Some(false),
    }
}

/// The key of a call's note.
pub fn key(tenant: &str, call: &str) -> String {
    client::key(tenant, call)
}

/// A HubSpot that an administrator has set up by the manual.
pub async fn portal() -> HubSpot {
    portal_with(|_| {}).await
}

pub async fn portal_with(change: impl FnOnce(&mut hubspot::Setup)) -> HubSpot {
    let mut setup = hubspot::Setup::default();
    let key = Property::new("sales_coach_key", hubspot::Kind::Text).unique();
    setup.call_properties.push(key);
    change(&mut setup);
    HubSpot::start(setup).await
}

/// A Salesforce that an administrator has set up by the manual.
pub async fn org() -> Salesforce {
    Salesforce::start(salesforce::Setup::default().object(coaching())).await
}

/// `Call_Coaching__c`, as the manual says.
pub fn coaching() -> Object {
    let key = Column::text("Call_Key__c", 36).external_id().unique();
    Object::custom("Call_Coaching__c")
        .field(key)
        .field(Column::text("Call_Id__c", 255))
        .field(Column::new("Started_At__c", ColumnKind::DateTime))
        .field(Column::new("Duration_Seconds__c", ColumnKind::Number))
        .field(Column::text("Rep__c", 255))
        .field(Column::text("Outcome__c", 255))
        .field(Column::text("Objections__c", 255))
        .field(Column::text("Sentiment__c", 255))
        .field(Column::new("Talk_Ratio__c", ColumnKind::Number))
        .field(Column::new("Next_Step__c", ColumnKind::Checkbox))
        .field(Column::new("Tips_Shown__c", ColumnKind::Number))
        .field(Column::new("Tips_Used__c", ColumnKind::Number))
        .field(Column::new("Note__c", ColumnKind::LongText(32_000)))
        .field(Column::new("Link__c", ColumnKind::Url))
}
