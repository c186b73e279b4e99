//! Commits what is finished: when, what, and what is counted afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Driver;
use crate::dead_letter::{self, Flood, OutRecord};
use crate::runner::measures::{Measures, age};
use crate::runner::work::Outcome;
use crate::runner::{RunError, low_water};
use crate::{Poison, Stage};

/// How long a transaction that is mostly dead letters waits for what is in work, so that a flood
/// is seen before it is committed.
const FLOOD_WAIT: Duration = Duration::from_secs(1);

impl<S: Stage> Driver<S> {
    /// Whether it is time to commit: at once when there is something to write, a little later when
    /// only offsets move.
    pub(super) fn is_due(&self) -> bool {
        let Some(since) = self.state.pending_since else {
            return false;
        };
        let (mut records, mut emitted, mut dead) = (0, 0, 0);
        let pending = self.state.partitions.values().flat_map(|p| &p.pending);
        for finished in pending {
            records += 1;
            match finished.outcome {
                Outcome::Emitted { .. } => emitted += 1,
                Outcome::Dead(..) => dead += 1,
                Outcome::Skipped(_) | Outcome::Fatal(_) => {}
            }
        }
        let waited = since.elapsed();
        if dead * 2 > records {
            return records == self.in_flight() || waited > FLOOD_WAIT;
        }
        emitted + dead > 0
            || records * 2 > self.shared.settings.window
            || waited >= self.shared.settings.commit_after()
    }

    /// Commits all that is finished, in one transaction.
    pub(super) fn commit(&mut self) -> Result<(), RunError> {
        if self.state.pending_since.take().is_none() {
            return Ok(());
        }
        let begun = Instant::now();
        let offsets = self.kafka(|driver| driver.offsets())?;
        let mut records = Vec::new();
        let mut committed = Committed::default();
        for partition in self.state.partitions.values_mut() {
            for finished in partition.pending.drain(..) {
                let poison = matches!(finished.outcome, Outcome::Dead(..));
                if self.flood.count(poison)
                    && let Outcome::Dead(_, last) = finished.outcome
                {
                    return Err(flooded::<S>(&self.flood, last));
                }
                committed.take(finished.outcome, &mut records, &self.dead, S::NAME);
            }
        }
        let written = self.writer.write(&records, &offsets, &self.group);
        let measures = &self.shared.measures;
        measures.transaction.observe(begun.elapsed().as_secs_f64());
        if let Err(error) = written {
            return self.start_over(error);
        }
        self.state.failures = 0;
        self.shared.progress.moved();
        measures
            .transaction_records
            .observe(committed.records() as f64);
        committed.count(measures);
        Ok(())
    }

    /// The offsets to commit, each with its low-water offset.
    fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        let mut offsets = TopicPartitionList::new();
        for (number, partition) in &self.state.partitions {
            if partition.pending.is_empty() {
                continue;
            }
            let position = Offset::Offset(partition.window.position());
            let mut element = offsets.add_partition(&self.input, *number);
            element.set_offset(position)?;
            element.set_metadata(low_water::write(partition.window.low_water()));
        }
        Ok(offsets)
    }
}

/// What a transaction has committed, to be counted when it has.
#[derive(Default)]
struct Committed {
    events: u64,
    times: Vec<i64>,
    emitted: u64,
    skipped: HashMap<&'static str, u64>,
    dead: Vec<Poison>,
}

impl Committed {
    fn take(&mut self, outcome: Outcome, records: &mut Vec<OutRecord>, dead: &str, stage: &str) {
        match outcome {
            Outcome::Emitted { records: out, time } => {
                self.emitted += 1;
                self.events += out.len() as u64;
                self.times.push(time);
                records.extend(out);
            }
            Outcome::Skipped(reason) => *self.skipped.entry(reason).or_default() += 1,
            Outcome::Dead(raw, poison) => {
                tracing::warn!(
                    stage,
                    topic = raw.origin.topic,
                    partition = raw.origin.partition,
                    offset = raw.origin.offset,
                    reason = %poison.reason,
                    detail = poison.detail,
                    "dead letter"
                );
                records.push(dead_letter::letter(*raw, dead, stage, &poison));
                self.dead.push(poison);
            }
            Outcome::Fatal(_) => {}
        }
    }

    fn records(&self) -> u64 {
        self.emitted + self.skipped.values().sum::<u64>() + self.dead.len() as u64
    }

    fn count(&self, measures: &Measures) {
        let records = &measures.records;
        records
            .with_label_values(&["emitted", ""])
            .inc_by(self.emitted);
        for (reason, count) in &self.skipped {
            records
                .with_label_values(&["skipped", reason])
                .inc_by(*count);
        }
        for poison in &self.dead {
            measures.count("dead_lettered", &poison.reason);
        }
        measures.events.inc_by(self.events);
        for time in &self.times {
            measures.event_age.observe(age(*time));
        }
    }
}

fn flooded<S: Stage>(flood: &Flood, last: Poison) -> RunError {
    let (poison, records) = flood.seen();
    RunError::PoisonFlood {
        stage: S::NAME,
        poison,
        records,
        last,
    }
}
