//! Reads topics without a consumer group: for `coach tail`, the gateway and the demo.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::{AnyEvent, Topic};
use tokio::sync::mpsc;

use crate::dead_letter::RawRecord;
use crate::kafka::{Quiet, is_passing};
use crate::replay::Mark;
use crate::runner::Settings;
use crate::runner::work::backoff;
use crate::{Decoder, Delivery, Effects, Envelope, Kafka, Origin, Poison, StageError};

/// Records read ahead, at most.
const AHEAD: usize = 1_000;
/// How often a reader's thread looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a single question to the brokers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Pause before asking brokers again that are not ready.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest record of each partition.
    Beginning,
    /// After the newest record of each partition.
    End,
    /// At the first record of each partition stamped at or after this time, in milliseconds since
    /// 1970.
    Time(i64),
    /// At this offset of each partition.
    Offset(i64),
    /// At the offset given for a topic on the broker and partition; elsewhere at the end.
    Positions(BTreeMap<(String, i32), i64>),
}

/// What a reader does with replayed records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// Hands them on like all others.
    Read,
    /// Gives [`ReadError::Replayed`] in their place.
    Refused,
}

impl std::convert::From<Effects> for Replayed {
    fn from(effects: Effects) -> Self {
        match effects {
            Effects::Topic | Effects::Rows => Self::Read,
            Effects::Outside => Self::Refused,
        }
    }
}

/// Why there is no next event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This record is a replayed one, and the reader refuses those; reading goes on with the next.
    #[error("{}/{}/{} is of replay {replay}", origin.topic, origin.partition, origin.offset)]
    Replayed {
        /// Where the record lies.
        origin: Origin,
        /// The replay.
        replay: String,
    },
    /// This record is no event; reading goes on with the next.
    #[error("{}/{}/{}: {poison}", origin.topic, origin.partition, origin.offset)]
    Poison {
        /// Where the record lies.
        origin: Origin,
        /// What is wrong with it.
        poison: Poison,
    },
    /// Kafka refused for good.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The reader has ended.
    #[error("the reader has ended")]
    Ended,
}

/// What a topic's thread sends.
enum Item {
    Record(RawRecord),
    /// The end of a partition was reached.
    End(String, i32),
    Failed(KafkaError),
}

/// Reads every partition of some topics; only what is committed. Each partition comes in order,
/// topics and partitions among each other in none.
pub struct Reader {
    items: mpsc::Receiver<Item>,
    prefix: String,
    decoder: Decoder,
    replayed: Replayed,
    /// The record at work: kept here, so that a future that is dropped loses none.
    decoding: Option<BoxFuture<'static, Decoded>>,
    /// Where partitions ended when the reader was opened, as long as that is not reached.
    ends: HashMap<(String, i32), i64>,
    /// Records stamped before this are passed over.
    not_before: Option<i64>,
}

impl Reader {
    /// Begins to read; waits for brokers and topics that are not there yet, and later for the
    /// decoder's schema registry.
    ///
    /// # Errors
    /// [`ReadError::Kafka`] when the settings are wrong or the brokers refuse.
    pub async fn open(
        kafka: &Kafka,
        decoder: Decoder,
        topics: &[Topic],
        from: From,
        replayed: Replayed,
    ) -> Result<Self, ReadError> {
        let names: Vec<String> = topics.iter().map(|topic| kafka.topic(topic)).collect();
        kafka.wait_for_topics(&names).await?;
        // librdkafka's in-process cluster knows no time: read all and pass over what is older.
        let (from, not_before) = match from {
            From::Time(time) if kafka.delivery == Delivery::AtLeastOnce => {
                (From::Beginning, Some(time))
            }
            from => (from, None),
        };
        let (sender, items) = mpsc::channel(AHEAD);
        let mut ends = HashMap::new();
        for name in names {
            let (consumer, plan) = begin(kafka, &name, &from).await?;
            let unread = plan.ends.into_iter();
            ends.extend(unread.map(|(partition, end)| ((name.clone(), partition), end)));
            let sender = sender.clone();
            std::thread::Builder::new()
                .name(format!("read {name}"))
                .spawn(move || read(&consumer, &name, &sender))
                .map_err(|_| ReadError::Ended)?;
        }
        Ok(Self {
            items,
            prefix: kafka.prefix.clone(),
            decoder,
            replayed,
            decoding: None,
            ends,
            not_before,
        })
    }

    /// The next event. Cancel-safe: a future that is dropped loses none.
    ///
    /// # Errors
    /// [`ReadError::Poison`] for a record that is no event and [`ReadError::Replayed`] for a replayed
    /// one, after which reading goes on; any other ends the reader.
    pub async fn next(&mut self) -> Result<Envelope<AnyEvent>, ReadError> {
        loop {
            if let Some(read) = self.step().await {
                return read;
            }
        }
    }

    /// The next event of those that were there when the reader was opened; none when all of them
    /// have been read. Cancel-safe.
    pub async fn next_present(&mut self) -> Option<Result<Envelope<AnyEvent>, ReadError>> {
        while !self.caught_up() {
            if let Some(read) = self.step().await {
                return Some(read);
            }
        }
        None
    }

    /// Whether everything that was there when the reader was opened has been read.
    pub fn caught_up(&self) -> bool {
        self.ends.is_empty()
    }

    async fn step(&mut self) -> Option<Result<Envelope<AnyEvent>, ReadError>> {
        let decoding = match &mut self.decoding {
            Some(decoding) => decoding,
            None => match self.items.recv().await {
                None => return Some(Err(ReadError::Ended)),
                Some(Item::Failed(error)) => return Some(Err(error.into())),
                Some(Item::End(topic, partition)) => {
                    self.ends.remove(&(topic, partition));
                    return None;
                }
                Some(Item::Record(raw)) if self.not_before.is_some_and(|t| raw.timestamp < t) => {
                    self.passed(&raw.origin);
                    return None;
                }
                Some(Item::Record(raw)) => {
                    if self.replayed == Replayed::Refused
                        && let Some(mark) = Mark::of(&raw.headers)
                    {
                        self.passed(&raw.origin);
                        return Some(Err(ReadError::Replayed {
                            origin: raw.origin,
                            replay: mark.id,
                        }));
                    }
                    let decoded = decode(self.decoder.clone(), self.prefix.clone(), raw);
                    self.decoding.insert(decoded.boxed())
                }
            },
        };
        let (origin, decoded) = decoding.await;
        self.decoding = None;
        self.passed(&origin);
        Some(decoded.map_err(|poison| ReadError::Poison { origin, poison }))
    }

    /// Notes that a record was read: it may be the last of those that were there at the start.
    fn passed(&mut self, origin: &Origin) {
        let place = (origin.topic.clone(), origin.partition);
        let end = self.ends.get(&place);
        if end.is_some_and(|end| origin.offset + 1 >= *end) {
            self.ends.remove(&place);
        }
    }
}

/// What became of a record.
type Decoded = (Origin, Result<Envelope<AnyEvent>, Poison>);

/// Decodes a record, however long the schema registry is away.
async fn decode(decoder: Decoder, prefix: String, raw: RawRecord) -> Decoded {
    let mut tries = 0;
    loop {
        let error = match decoder.any(&prefix, &raw).await {
            Ok(envelope) => return (raw.origin, Ok(envelope)),
            Err(StageError::Poison(poison)) => return (raw.origin, Err(poison)),
            Err(error) => error,
        };
        tries += 1;
        let pause = backoff(tries, &Settings::default());
        let (error, pause_ms) = (format!("{error:#}"), pause.as_millis());
        tracing::warn!(topic = raw.origin.topic, pause_ms, error, "trying again");
        tokio::time::sleep(pause).await;
    }
}

/// A consumer that never joins a group; librdkafka wants a group's name all the same.
fn consumer(kafka: &Kafka) -> KafkaResult<BaseConsumer<Quiet>> {
    let group = format!("{}reader-{}", kafka.prefix, uuid::Uuid::new_v4());
    kafka
        .consumer(
            &group,
            &[
                ("enable.partition.eof", "true"),
                ("queued.max.messages.kbytes", "16384"),
            ],
        )
        .create_with_context(Quiet)
}

/// A consumer of all partitions of a topic; waits until the brokers can tell where they begin.
async fn begin(
    kafka: &Kafka,
    topic: &str,
    from: &From,
) -> Result<(BaseConsumer<Quiet>, Plan), ReadError> {
    let mut consumer = consumer(kafka)?;
    loop {
        let (asked, from) = (topic.to_owned(), from.clone());
        let asking = tokio::task::spawn_blocking(move || {
            let plan = plan(&consumer, &asked, &from);
            (consumer, plan)
        });
        let (back, plan) = asking.await.map_err(|_| ReadError::Ended)?;
        match plan {
            Ok(plan) => {
                back.assign(&plan.begin)?;
                return Ok((back, plan));
            }
            Err(error) if is_passing(&error) => {
                tracing::warn!(topic, %error, "kafka is not ready, trying again");
                consumer = back;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Where to begin with each partition of a topic, and where those end that have more to read.
struct Plan {
    begin: TopicPartitionList,
    ends: Vec<(i32, i64)>,
}

fn plan(consumer: &BaseConsumer<Quiet>, topic: &str, from: &From) -> KafkaResult<Plan> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let described = metadata.topics().first().ok_or(KafkaError::Canceled)?;
    let partitions: HashSet<i32> = described.partitions().iter().map(|p| p.id()).collect();
    let times = match from {
        From::Time(time) => offsets_at(consumer, topic, &partitions, *time)?,
        _ => HashMap::new(),
    };
    let mut plan = Plan {
        begin: TopicPartitionList::new(),
        ends: Vec::new(),
    };
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        let begin = match from {
            From::Beginning => low,
            From::End => high,
            From::Time(_) => times.get(&partition).copied().unwrap_or(high),
            From::Offset(offset) => *offset,
            From::Positions(positions) => positions
                .get(&(topic.to_owned(), partition))
                .copied()
                .unwrap_or(high),
        };
        let begin = begin.clamp(low, high);
        plan.begin
            .add_partition_offset(topic, partition, Offset::Offset(begin))?;
        if begin < high {
            plan.ends.push((partition, high));
        }
    }
    Ok(plan)
}

/// The first offset of each partition stamped at or after `time`, where there is one.
fn offsets_at(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: &HashSet<i32>,
    time: i64,
) -> KafkaResult<HashMap<i32, i64>> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition_offset(topic, *partition, Offset::Offset(time))?;
    }
    let found = consumer.offsets_for_times(asked, ANSWER_WITHIN)?;
    let offsets = found.elements();
    let offsets = offsets.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    Ok(offsets.collect())
}

/// A topic's thread: until the reader is dropped.
fn read(consumer: &BaseConsumer<Quiet>, topic: &str, sender: &mpsc::Sender<Item>) {
    while !sender.is_closed() {
        let item = match consumer.poll(LOOK_EVERY) {
            None => continue,
            Some(Ok(record)) if record.topic() == topic => Item::Record(RawRecord::of(&record)),
            Some(Ok(_)) => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                Item::End(topic.to_owned(), partition)
            }
            Some(Err(error)) => {
                let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                if !fatal && is_passing(&error) {
                    tracing::debug!(%error, topic, "consumer error, going on");
                    continue;
                }
                Item::Failed(error)
            }
        };
        if sender.blocking_send(item).is_err() {
            return;
        }
    }
}
