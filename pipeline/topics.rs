//! The topic table made real on a cluster: created, compared, described.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use schemas::topics;
use serde::Serialize;

use crate::Kafka;
use crate::kafka::Quiet;

/// How long the cluster may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A topic as the topic table wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name on the broker.
    pub name: String,
    /// Partitions.
    pub partitions: i32,
    /// How long records are kept.
    pub retention: Duration,
}

impl Wanted {
    fn max_message_bytes(&self) -> &'static str {
        if self.name.ends_with(".dead") {
            "2097152"
        } else {
            "1048588"
        }
    }
}

/// What became of a wanted topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was made now.
    Created,
    /// It was there as wanted.
    Kept,
    /// It was there and differs; each line says in what. Nothing was changed.
    Differs(Vec<String>),
}

/// A topic as it is on the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    /// Name on the broker.
    pub name: String,
    /// Whether it exists; all else is zero when not.
    pub exists: bool,
    /// Partitions.
    pub partitions: usize,
    /// Copies of each partition.
    pub replication: usize,
    /// How long records are kept, in milliseconds; -1 for good.
    pub retention_ms: i64,
    /// Offsets between the oldest and the newest record, over all partitions. Transaction markers
    /// count as well.
    pub offsets: i64,
}

/// Every topic of the product and its dead letters, as the topic table wants them.
pub fn wanted(kafka: &Kafka) -> Vec<Wanted> {
    let rows = topics::ALL.iter().flat_map(|topic| {
        let live = Wanted {
            name: kafka.topic(topic),
            partitions: topic.partitions,
            retention: topic.retention,
        };
        let dead = Wanted {
            name: kafka.dead(topic),
            partitions: topic.partitions,
            retention: topics::DEAD_LETTER_RETENTION,
        };
        [live, dead]
    });
    rows.collect()
}

/// Creates what is missing, and says what differs.
///
/// # Errors
/// When the cluster does not answer or refuses.
pub async fn create(kafka: &Kafka) -> Result<Vec<(String, Outcome)>, KafkaError> {
    let admin: AdminClient<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let wanted = wanted(kafka);
    let retentions: Vec<String> = wanted
        .iter()
        .map(|topic| topic.retention.as_millis().to_string())
        .collect();
    let new: Vec<NewTopic<'_>> = wanted
        .iter()
        .zip(&retentions)
        .map(|(topic, retention)| {
            NewTopic::new(
                &topic.name,
                topic.partitions,
                TopicReplication::Fixed(kafka.replication),
            )
            .set("retention.ms", retention)
            // A dead letter is its record and some headers: it must fit where the record did.
            .set("max.message.bytes", topic.max_message_bytes())
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(ANSWER_WITHIN))
        .operation_timeout(Some(ANSWER_WITHIN));
    let answers = admin.create_topics(&new, &options).await?;
    let mut there = Vec::new();
    for answer in &answers {
        match answer {
            Ok(_) => {}
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => there.push(name.as_str()),
            Err((_, code)) => return Err(KafkaError::AdminOp(*code)),
        }
    }
    let described = describe_names(kafka, &there).await?;
    let outcomes = wanted.iter().map(|topic| match described.get(&topic.name) {
        None => (topic.name.clone(), Outcome::Created),
        Some(found) => (topic.name.clone(), compare(topic, found, kafka.replication)),
    });
    Ok(outcomes.collect())
}

/// Every topic of the product and its dead letters, as they are on the cluster.
///
/// # Errors
/// When the cluster does not answer or refuses.
pub async fn describe(kafka: &Kafka) -> Result<Vec<Described>, KafkaError> {
    let names: Vec<String> = wanted(kafka).into_iter().map(|topic| topic.name).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = describe_names(kafka, &asked).await?;
    let rows = names.into_iter().map(|name| {
        found.remove(&name).unwrap_or(Described {
            name,
            exists: false,
            partitions: 0,
            replication: 0,
            retention_ms: 0,
            offsets: 0,
        })
    });
    Ok(rows.collect())
}

fn compare(wanted: &Wanted, found: &Described, replication: i32) -> Outcome {
    let retention = i64::try_from(wanted.retention.as_millis()).unwrap_or(i64::MAX);
    let pairs = [
        (
            "partitions",
            i64::from(wanted.partitions),
            count(found.partitions),
        ),
        (
            "replication",
            i64::from(replication),
            count(found.replication),
        ),
        ("retention.ms", retention, found.retention_ms),
    ];
    let differences: Vec<String> = pairs
        .iter()
        .filter(|(_, wanted, found)| wanted != found)
        .map(|(what, wanted, found)| format!("{what} is {found}, the topic table says {wanted}"))
        .collect();
    if differences.is_empty() {
        Outcome::Kept
    } else {
        Outcome::Differs(differences)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Those of the named topics that exist.
async fn describe_names(
    kafka: &Kafka,
    names: &[&str],
) -> Result<HashMap<String, Described>, KafkaError> {
    let consumer: BaseConsumer<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let consumer = Arc::new(consumer);
    let wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let found = tokio::task::spawn_blocking(move || shapes(&consumer, &wanted))
        .await
        .map_err(|_| KafkaError::Canceled)??;
    if found.is_empty() {
        return Ok(HashMap::new());
    }
    let admin: AdminClient<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let resources: Vec<ResourceSpecifier<'_>> = found
        .iter()
        .map(|topic| ResourceSpecifier::Topic(&topic.name))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let configs = admin.describe_configs(&resources, &options).await?;
    let mut described = HashMap::new();
    for (mut topic, config) in found.into_iter().zip(configs) {
        topic.retention_ms = retention_ms(&config.map_err(KafkaError::AdminOp)?);
        described.insert(topic.name.clone(), topic);
    }
    Ok(described)
}

fn retention_ms(config: &ConfigResource) -> i64 {
    config
        .get("retention.ms")
        .and_then(|entry| entry.value.as_ref()?.parse().ok())
        .unwrap_or(-1)
}

/// Partitions, copies and offsets of those of the named topics that exist. Blocks.
fn shapes(consumer: &BaseConsumer<Quiet>, names: &[String]) -> Result<Vec<Described>, KafkaError> {
    let metadata: Metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
    let mut found = Vec::new();
    for topic in metadata.topics() {
        if !names.iter().any(|name| name == topic.name()) {
            continue;
        }
        let mut offsets = 0;
        for partition in topic.partitions() {
            let (low, high) =
                consumer.fetch_watermarks(topic.name(), partition.id(), ANSWER_WITHIN)?;
            offsets += high - low;
        }
        found.push(Described {
            name: topic.name().to_owned(),
            exists: true,
            partitions: topic.partitions().len(),
            replication: topic
                .partitions()
                .first()
                .map_or(0, |partition| partition.replicas().len()),
            retention_ms: 0,
            offsets,
        });
    }
    Ok(found)
}
