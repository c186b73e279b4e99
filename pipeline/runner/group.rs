//! A member of a consumer group whose partitions come and go only when its owner says so.
//!
//! librdkafka announces a rebalance while it is polled and then waits for the answer. The answer
//! is given by the owner's loop, between two pieces of work, and not from within the poll: so what
//! is in work can be finished and committed before a partition is handed over.
//!
//! The assignment is cooperative: a partition that stays with this member keeps its state and goes
//! on during a rebalance. Whoever lost its partitions without knowing (a zombie) is fenced by the
//! group's generation, which rides with the offsets in every transaction.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prometheus::IntGaugeVec;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::low_water;
pub(crate) use super::rebalance::Change;
use super::rebalance::Context;
use super::settings::Settings;
use crate::Kafka;
use crate::dead_letter::RawRecord;
use crate::kafka::{Quiet, is_passing};
use crate::watchdog::Silence;

/// How long a single question to the brokers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long leaving the group may take before the process goes on without.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How often librdkafka tells of itself.
const TELL_EVERY_MS: &str = "5000";
/// After so long without a broker the brokers count as away: three of librdkafka's reports.
const AWAY_AFTER: Duration = Duration::from_secs(15);
/// How often silent partitions are compared with the brokers.
const CHECK_EVERY: Duration = Duration::from_secs(15);

/// A topic on the broker and a partition of it.
pub(crate) type Place = (String, i32);

/// Where to begin with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// First record to read.
    pub low_water: i64,
    /// First record that is not committed.
    pub committed: i64,
}

/// What a poll gave.
pub(crate) enum Polled {
    /// A record.
    Record(RawRecord),
    /// All of a partition was read. The topic is not told.
    End(i32),
}

pub(crate) struct Group {
    /// Taken only when leaving.
    consumer: Option<BaseConsumer<Context>>,
    /// Asks the brokers where partitions end. On connections of its own: on the consumer's each question would wait
    /// behind a fetch that waits for news, and the owner's loop with it.
    scout: BaseConsumer<Quiet>,
    silences: HashMap<Place, Silence>,
    checked: Instant,
    paused: bool,
}

impl Group {
    /// Joins a stage's or sink's group for these topics. `wake` is called when there is something
    /// to poll.
    pub fn join(
        kafka: &Kafka,
        stage: &str,
        topics: &[String],
        settings: &Settings,
        lag: IntGaugeVec,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> KafkaResult<Self> {
        let session = settings.session_timeout_ms.to_string();
        let heartbeat = (settings.session_timeout_ms / 5).max(100).to_string();
        let mut own = vec![
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", session.as_str()),
            ("heartbeat.interval.ms", heartbeat.as_str()),
            ("enable.partition.eof", "true"),
            ("statistics.interval.ms", TELL_EVERY_MS),
            ("queued.max.messages.kbytes", "16384"),
        ];
        if let Some(instance) = &settings.instance {
            own.push(("group.instance.id", instance));
        }
        let config = kafka.consumer(&kafka.group(stage), &own);
        let context = Context::new(stage, lag);
        let mut consumer = BaseConsumer::from_config_and_context(&config, context)?;
        consumer.set_nonempty_callback(wake);
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        Ok(Self {
            consumer: Some(consumer),
            scout: kafka.client(&[]).create_with_context(Quiet)?,
            silences: HashMap::new(),
            checked: Instant::now(),
            paused: false,
        })
    }

    /// What the group wants next, in order.
    pub fn change(&self) -> Option<Change> {
        self.consumer().ok()?.context().next_change()
    }

    /// Whether the group wants something.
    pub fn is_asked(&self) -> bool {
        self.consumer()
            .is_ok_and(|consumer| consumer.context().has_change())
    }

    /// The next record or end of a partition that is at hand, if any.
    pub fn poll(&mut self) -> KafkaResult<Option<Polled>> {
        // A poll that meets an event of another kind gives nothing, though records may lie behind
        // it, and no wake-up comes for those: only a second poll without result is the end.
        let mut polls = 0;
        loop {
            match self.consumer()?.poll(Duration::ZERO) {
                None if polls == 0 => polls += 1,
                None => return Ok(None),
                Some(Ok(record)) => {
                    let raw = RawRecord::of(&record);
                    drop(record);
                    let place = (raw.origin.topic.clone(), raw.origin.partition);
                    if let Some(silence) = self.silences.get_mut(&place) {
                        silence.heard();
                    }
                    return Ok(Some(Polled::Record(raw)));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // The event names no topic; for a group of several topics this is lenient.
                    for ((_, number), silence) in &mut self.silences {
                        if *number == partition {
                            silence.heard();
                        }
                    }
                    return Ok(Some(Polled::End(partition)));
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
                Some(Err(error)) if !is_passing(&error) => return Err(error),
                Some(Err(error)) => tracing::debug!(%error, "consumer error, going on"),
            }
        }
    }

    /// Whether the brokers have been away for long.
    pub fn is_alone(&self) -> bool {
        self.consumer()
            .is_ok_and(|consumer| consumer.context().unseen() > AWAY_AFTER)
    }

    /// Where to begin with these partitions, as the group has it.
    pub fn starts(&self, places: &[Place]) -> KafkaResult<HashMap<Place, Start>> {
        let asked = list(places.iter().map(|place| (place, Offset::Invalid)))?;
        let committed = self.consumer()?.committed_offsets(asked, ANSWER_WITHIN)?;
        let mut starts = HashMap::new();
        for element in committed.elements() {
            element.error()?;
            let place = (element.topic().to_owned(), element.partition());
            let start = match element.offset() {
                Offset::Offset(committed) => Start {
                    low_water: low_water::read(element.metadata(), committed),
                    committed,
                },
                _ => Start {
                    low_water: 0,
                    committed: 0,
                },
            };
            starts.insert(place, start);
        }
        Ok(starts)
    }

    /// Takes partitions and reads each from its low-water offset on.
    pub fn assign(&mut self, starts: &HashMap<Place, Start>) -> KafkaResult<()> {
        let list = begin(starts)?;
        let consumer = self.consumer()?;
        consumer.incremental_assign(&list)?;
        // A partition that was paused when it was given away is still paused when it comes back.
        if self.paused {
            consumer.pause(&list)?;
        } else {
            consumer.resume(&list)?;
        }
        for place in starts.keys() {
            self.silences.insert(place.clone(), Silence::new());
        }
        Ok(())
    }

    /// Takes partitions only to hand them over: the group waits for each answer in turn.
    pub fn take_unread(&mut self, places: &[Place]) -> KafkaResult<()> {
        let list = list(places.iter().map(|place| (place, Offset::End)))?;
        self.consumer()?.incremental_assign(&list)
    }

    /// Goes back to the low-water offsets of partitions that are assigned.
    pub fn rewind(&mut self, starts: &HashMap<Place, Start>) -> KafkaResult<()> {
        let sought = self
            .consumer()?
            .seek_partitions(begin(starts)?, ANSWER_WITHIN)?;
        sought.elements().iter().try_for_each(|e| e.error())
    }

    /// Gives partitions back. An error here means that they are gone already.
    pub fn unassign(&mut self, places: &[Place]) {
        for place in places {
            self.silences.remove(place);
        }
        let list = list(places.iter().map(|place| (place, Offset::Invalid)));
        let given = list.and_then(|list| self.consumer()?.incremental_unassign(&list));
        if let Err(error) = given {
            tracing::debug!(%error, "partitions were gone already");
        }
    }

    /// Stops or goes on fetching. Stopping throws away what was fetched ahead.
    pub fn pause(&mut self, pause: bool) -> KafkaResult<()> {
        if pause == self.paused {
            return Ok(());
        }
        let consumer = self.consumer()?;
        let assigned = consumer.assignment()?;
        if pause {
            consumer.pause(&assigned)?;
        } else {
            consumer.resume(&assigned)?;
        }
        self.paused = pause;
        Ok(())
    }

    /// Whether fetching is stopped.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Proof of membership for offsets in a transaction.
    pub fn metadata(&self) -> KafkaResult<ConsumerGroupMetadata> {
        self.consumer()?
            .group_metadata()
            .ok_or(KafkaError::Canceled)
    }

    /// Commits offsets outside of a transaction, and waits for it.
    pub fn commit(&self, offsets: &TopicPartitionList) -> KafkaResult<()> {
        self.consumer()?.commit(offsets, CommitMode::Sync)
    }

    /// Looks, now and then, for partitions that have something new of which the consumer gives
    /// nothing. Returns the one that has been silent for `limit`.
    pub fn silent(&mut self, limit: Duration) -> Option<Place> {
        let now = Instant::now();
        if self.paused {
            self.silences.values_mut().for_each(Silence::heard);
        }
        if now.duration_since(self.checked) < CHECK_EVERY.min(limit / 2) {
            return None;
        }
        self.checked = now;
        // Brokers that do not answer are no fault of the consumer.
        let asked = list(self.silences.keys().map(|place| (place, Offset::End))).ok()?;
        let ends = self.scout.offsets_for_times(asked, ANSWER_WITHIN).ok()?;
        for element in ends.elements() {
            let place = (element.topic().to_owned(), element.partition());
            if let (Offset::Offset(end), Some(silence)) =
                (element.offset(), self.silences.get_mut(&place))
                && silence.check(end, now) > limit
            {
                return Some(place);
            }
        }
        None
    }

    /// Leaves the group, so that others take over at once.
    pub fn leave(mut self) {
        self.close();
    }

    fn close(&mut self) {
        let Some(consumer) = self.consumer.take() else {
            return;
        };
        consumer.context().leave();
        // Closing a consumer has been seen to hang: it gets a thread of its own and a deadline.
        let (closed, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(consumer);
            // Nobody waits any more when the deadline has passed.
            let _ = closed.send(());
        });
        if wait.recv_timeout(LEAVE_WITHIN).is_err() {
            tracing::warn!("leaving the consumer group takes too long, going on without");
        }
    }

    fn consumer(&self) -> KafkaResult<&BaseConsumer<Context>> {
        self.consumer.as_ref().ok_or(KafkaError::Canceled)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.close();
    }
}

/// A list of partitions with offsets.
fn list<'a>(places: impl Iterator<Item = (&'a Place, Offset)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in places {
        list.add_partition_offset(topic, *partition, offset)?;
    }
    Ok(list)
}

/// The first offset to read of each partition.
fn begin(starts: &HashMap<Place, Start>) -> KafkaResult<TopicPartitionList> {
    list(starts.iter().map(|(place, start)| match start.low_water {
        0 => (place, Offset::Beginning),
        offset => (place, Offset::Offset(offset)),
    }))
}
