//! What librdkafka tells of the group, kept for the group's owner.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntGaugeVec;
use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::group::Place;

/// What the group wants.
#[derive(Debug)]
pub(crate) enum Change {
    /// Take these partitions.
    Assigned(Vec<Place>),
    /// Hand these over.
    Revoked(Vec<Place>),
    /// These were taken away: others may have them already.
    Lost(Vec<Place>),
}

/// Keeps what the group wants until the group's owner asks, and takes the consumer's statistics,
/// which come for as long as it is polled, whether or not brokers are there.
pub(super) struct Context {
    stage: String,
    lag: IntGaugeVec,
    changes: Mutex<VecDeque<Change>>,
    leaving: AtomicBool,
    /// When a broker was last known to be there.
    seen: Mutex<Instant>,
}

impl Context {
    pub fn new(stage: &str, lag: IntGaugeVec) -> Self {
        Self {
            stage: stage.to_owned(),
            lag,
            changes: Mutex::default(),
            leaving: AtomicBool::new(false),
            seen: Mutex::new(Instant::now()),
        }
    }

    /// What the group wants next, in order.
    pub fn next_change(&self) -> Option<Change> {
        lock(&self.changes).pop_front()
    }

    /// Whether the group wants something.
    pub fn has_change(&self) -> bool {
        !lock(&self.changes).is_empty()
    }

    /// For how long no broker has been known to be there.
    pub fn unseen(&self) -> Duration {
        lock(&self.seen).elapsed()
    }

    /// From now on partitions are given back at once.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        crate::kafka::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Every error of a poll comes here too, the end of a partition among them.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!(stage = self.stage, %error, reason, "kafka does not answer, trying on");
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|b| b.state == "UP") {
            *lock(&self.seen) = Instant::now();
        }
        for (name, topic) in statistics.topics {
            for (number, partition) in topic.partitions {
                if !partition.desired || number < 0 {
                    continue;
                }
                let end = partition.ls_offset.max(0);
                let read_all = partition.fetchq_cnt == 0 && partition.next_offset >= end;
                let lag = if read_all {
                    0
                } else {
                    end - partition.app_offset.max(0)
                };
                self.lag
                    .with_label_values(&[&name, &number.to_string()])
                    .set(lag.max(0));
            }
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::SeqCst) {
            let answer = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative if !assigned => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "partitions were gone already");
            }
            return;
        }
        let places = places(list);
        let change = if assigned {
            Change::Assigned(places)
        } else if consumer.assignment_lost() {
            Change::Lost(places)
        } else {
            Change::Revoked(places)
        };
        lock(&self.changes).push_back(change);
    }
}

/// A panic elsewhere cannot leave these half-written: go on with them.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}
