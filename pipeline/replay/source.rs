//! Reads stretches of partitions to their end, without a consumer group.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{ReplayError, Spans};
use crate::Kafka;
use crate::dead_letter::RawRecord;
use crate::kafka::{Quiet, is_passing};

/// Records read ahead, at most.
const AHEAD: usize = 1_000;
/// How often a thread looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Reads some spans to their end: each partition in order, partitions among each other in none.
pub struct Source {
    items: mpsc::Receiver<KafkaResult<RawRecord>>,
}

impl Source {
    /// Begins to read; only what is committed.
    ///
    /// # Errors
    /// [`ReplayError::Kafka`] when the settings are wrong.
    pub fn open(kafka: &Kafka, spans: &Spans) -> Result<Self, ReplayError> {
        let (sender, items) = mpsc::channel(AHEAD);
        let mut topics: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
        let mut begins: BTreeMap<&str, TopicPartitionList> = BTreeMap::new();
        for ((topic, partition), span) in spans.iter().filter(|(_, span)| span.from < span.to) {
            let begin = begins.entry(topic).or_default();
            begin.add_partition_offset(topic, *partition, Offset::Offset(span.from))?;
            topics.entry(topic).or_default().insert(*partition, span.to);
        }
        for (topic, ends) in topics {
            let group = format!("{}replay-{}", kafka.prefix, uuid::Uuid::new_v4());
            let own = [
                ("enable.partition.eof", "true"),
                ("queued.max.messages.kbytes", "16384"),
            ];
            let config = kafka.consumer(&group, &own);
            let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
            if let Some(begin) = begins.get(topic) {
                consumer.assign(begin)?;
            }
            let (topic, sender) = (topic.to_owned(), sender.clone());
            std::thread::Builder::new()
                .name(format!("replay {topic}"))
                .spawn(move || read(&consumer, &topic, ends, &sender))
                .map_err(|_| KafkaError::Canceled)?;
        }
        Ok(Self { items })
    }

    /// The next record; none when all spans have been read. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<KafkaResult<RawRecord>> {
        self.items.recv().await
    }
}

/// A topic's thread: until all its partitions are read or nobody wants them.
fn read(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    mut ends: BTreeMap<i32, i64>,
    sender: &mpsc::Sender<KafkaResult<RawRecord>>,
) {
    while !ends.is_empty() && !sender.is_closed() {
        match consumer.poll(LOOK_EVERY) {
            None => {}
            Some(Ok(record)) => {
                let raw = RawRecord::of(&record);
                drop(record);
                let (partition, offset) = (raw.origin.partition, raw.origin.offset);
                let Some(end) = ends.get(&partition).copied() else {
                    continue;
                };
                if offset < end && sender.blocking_send(Ok(raw)).is_err() {
                    return;
                }
                if offset + 1 >= end {
                    ends.remove(&partition);
                    rest(consumer, topic, partition);
                }
            }
            // What lies behind is not committed yet, or markers of transactions.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) => {
                let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                if !fatal && is_passing(&error) {
                    tracing::debug!(%error, topic, "consumer error, going on");
                } else {
                    // Nobody may be left to hear it.
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            }
        }
    }
}

/// Fetches no more of a partition whose end lies behind.
fn rest(consumer: &BaseConsumer<Quiet>, topic: &str, partition: i32) {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    if let Err(error) = consumer.pause(&list) {
        tracing::debug!(%error, topic, partition, "reading on past the end");
    }
}
