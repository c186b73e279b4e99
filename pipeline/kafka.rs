//! How clients reach Kafka: the config section `[kafka]` and what every client has in common.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::Topic;
use serde::{Deserialize, Serialize};

/// How long one try to reach the brokers may take.
const REACH_WITHIN: Duration = Duration::from_secs(3);

/// What a stage's output is worth when the stage dies half way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Input and output in one Kafka transaction.
    #[default]
    ExactlyOnce,
    /// Output first, then the offset. For librdkafka's in-process cluster of `coach demo`, which
    /// has no transactions.
    AtLeastOnce,
}

/// Config section `[kafka]`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to start from: `host:port`, several with commas.
    pub bootstrap: String,
    /// Put before every topic, group and transactional id, so that several installations can share
    /// a cluster. None by default.
    pub prefix: String,
    /// Any setting of librdkafka, for example `security.protocol`. May hold secrets.
    pub options: BTreeMap<String, String>,
    /// Exactly once, or at least once.
    pub delivery: Delivery,
    /// Copies of each partition of the topics that `coach topics create` makes.
    pub replication: i32,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            bootstrap: "localhost:9092".to_owned(),
            prefix: String::new(),
            options: BTreeMap::new(),
            delivery: Delivery::default(),
            replication: 1,
        }
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap", &self.bootstrap)
            .field("prefix", &self.prefix)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .field("delivery", &self.delivery)
            .field("replication", &self.replication)
            .finish()
    }
}

impl Kafka {
    /// The topic's name on the broker.
    pub fn topic(&self, topic: &Topic) -> String {
        format!("{}{}", self.prefix, topic.name)
    }

    /// The name on the broker of the topic that takes this topic's dead letters.
    pub fn dead(&self, topic: &Topic) -> String {
        format!("{}{}", self.prefix, topic.dead())
    }

    /// The row of the topic table behind a name on the broker; none for dead letters.
    pub fn row(&self, name: &str) -> Option<&'static Topic> {
        Topic::named(name.strip_prefix(&self.prefix)?)
    }

    /// The consumer group of a stage or sink.
    pub fn group(&self, stage: &str) -> String {
        format!("{}{stage}", self.prefix)
    }

    /// What every client has in common. The user's own options come last and win.
    pub fn client(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", "sales-coach")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.nagle.disable", "true")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in own {
            config.set(*key, *value);
        }
        for (key, value) in &self.options {
            config.set(key, value);
        }
        config
    }

    /// A consumer's settings: reads only what is committed, fetches at once, commits nothing by
    /// itself.
    pub fn consumer(&self, group: &str, own: &[(&str, &str)]) -> ClientConfig {
        // librdkafka's in-process cluster holds an empty fetch for the whole wait.
        let wait = match self.delivery {
            Delivery::ExactlyOnce => "500",
            Delivery::AtLeastOnce => "10",
        };
        let mut settings = vec![
            ("group.id", group),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.min.bytes", "1"),
            ("fetch.wait.max.ms", wait),
            ("fetch.error.backoff.ms", "50"),
        ];
        settings.extend_from_slice(own);
        self.client(&settings)
    }

    /// A producer's settings: idempotent, acknowledged by all replicas, sent at once, keys spread
    /// over partitions as Java clients do it.
    pub fn producer(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut settings = vec![
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("topic.metadata.refresh.fast.interval.ms", "50"),
            // A transaction that follows another at once is told to wait until that one's markers
            // are written, which takes milliseconds; the default pause is 100.
            ("retry.backoff.ms", "2"),
        ];
        settings.extend_from_slice(own);
        self.client(&settings)
    }

    /// Waits until a broker answers, however long that takes, and says so in the log meanwhile.
    ///
    /// # Errors
    /// When the settings themselves are wrong, which no waiting mends.
    pub async fn wait_until_reachable(&self) -> Result<(), KafkaError> {
        self.wait_for_topics(&[]).await
    }

    /// Waits until these topics (names on the broker) exist, and says so in the log meanwhile.
    ///
    /// # Errors
    /// When the settings themselves are wrong, which no waiting mends.
    pub async fn wait_for_topics(&self, topics: &[String]) -> Result<(), KafkaError> {
        let consumer: BaseConsumer<Quiet> = self.client(&[]).create_with_context(Quiet)?;
        let consumer = Arc::new(consumer);
        let mut pause = Duration::from_millis(100);
        loop {
            let asked = Arc::clone(&consumer);
            let answer =
                tokio::task::spawn_blocking(move || asked.fetch_metadata(None, REACH_WITHIN)).await;
            match answer.map_err(|_| KafkaError::Canceled)? {
                Ok(metadata) => {
                    let there = |name: &String| {
                        let mut topics = metadata.topics().iter();
                        topics.any(|topic| topic.name() == name && topic.error().is_none())
                    };
                    let missing: Vec<&String> = topics.iter().filter(|t| !there(t)).collect();
                    if missing.is_empty() {
                        return Ok(());
                    }
                    tracing::warn!(
                        ?missing,
                        "topics do not exist, create them with coach topics create"
                    );
                }
                Err(error) => {
                    tracing::warn!(bootstrap = %self.bootstrap, %error, "kafka is unreachable, trying again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Forwards what librdkafka logs, and leaves its passing errors at debug: whoever waits for a
/// broker says so itself.
#[derive(Clone, Debug, Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ConsumerContext for Quiet {}

/// Forwards a line of librdkafka to the log. What it calls an error is mostly a broker that went
/// away, which it mends itself; what it cannot mend comes back as the error of a call.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    if level as i32 <= RDKafkaLogLevel::Warning as i32 && facility != "FAIL" {
        tracing::warn!(target: "librdkafka", facility, text, "client");
    } else {
        tracing::debug!(target: "librdkafka", facility, text, "client");
    }
}

/// Whether trying the same again may help: brokers gone, leaders moving, time out.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    !matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidTransactionTimeout
                | Code::UnsupportedVersion
                | Code::InvalidConfig
        )
    )
}
