//! Takes partitions up and hands them over: on a rebalance, and after a failed transaction.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult};

use super::{Driver, TICK};
use crate::Stage;
use crate::kafka::is_passing;
use crate::runner::RunError;
use crate::runner::group::{Change, Place, Start};
use crate::runner::partition::Partition;
use crate::runner::work::backoff;

impl<S: Stage> Driver<S> {
    pub(super) fn change(&mut self, change: Change) -> Result<(), RunError> {
        match change {
            Change::Assigned(places) => {
                tracing::info!(stage = S::NAME, partitions = ?numbers(&places), "partitions assigned");
                if places.is_empty() {
                    // The group waits for an answer even when there is nothing to take.
                    self.kafka(|driver| driver.group.assign(&HashMap::new()))?;
                }
                self.state.arrivals.extend(places);
                self.state.joined = true;
            }
            Change::Revoked(places) => {
                tracing::info!(stage = S::NAME, partitions = ?numbers(&places), "handing partitions over");
                let leaving = numbers(&places);
                self.drain(|number| leaving.contains(&number))?;
                self.give(&places)?;
            }
            Change::Lost(places) => {
                tracing::warn!(stage = S::NAME, partitions = ?numbers(&places), "partitions were taken away");
                self.state.joined = false;
                self.give(&places)?;
            }
        }
        Ok(())
    }

    /// Forgets partitions and tells the group so.
    fn give(&mut self, places: &[Place]) -> Result<(), RunError> {
        // The group waits for each answer in turn: what was given is taken before it is returned.
        let arrivals = std::mem::take(&mut self.state.arrivals);
        if !arrivals.is_empty() {
            self.kafka(|driver| driver.group.take_unread(&arrivals))?;
        }
        self.state.rewinds.retain(|place| !places.contains(place));
        for (_, number) in places {
            self.state.partitions.remove(number);
        }
        self.group.unassign(places);
        Ok(())
    }

    /// Waits for what is in work on some partitions, not longer than the drain deadline, and
    /// commits all that is finished. The rest is left to whoever reads these partitions next.
    pub(super) fn drain(&mut self, which: impl Fn(i32) -> bool) -> Result<(), RunError> {
        let deadline = Instant::now() + Duration::from_millis(self.shared.settings.drain_ms);
        let working = |driver: &Self| {
            let mut partitions = driver.state.partitions.iter();
            partitions.any(|(number, partition)| which(*number) && partition.running() > 0)
        };
        while working(self) && Instant::now() < deadline {
            self.shared.progress.tick(true);
            self.listen(TICK)?;
        }
        self.listen(Duration::ZERO)?;
        self.commit()
    }

    /// After a transaction that failed, or may have failed: forgets all state, to read it again
    /// from what is committed.
    pub(super) fn start_over(&mut self, error: KafkaError) -> Result<(), RunError> {
        self.shared.measures.transactions_failed.inc();
        self.failed(
            error,
            "a transaction failed, its records are processed again",
        )?;
        self.flood.reset();
        let input = &self.input;
        let partitions = self.state.partitions.drain();
        let places = partitions.map(|(number, _)| (input.clone(), number));
        self.state.rewinds.extend(places);
        self.state.ready.clear();
        // Until they are read again from where they were, nothing of them is of use.
        self.kafka(|driver| driver.group.pause(true))
    }

    /// Opens the writer and takes up partitions that wait for it, once that can work.
    pub(super) fn recover(&mut self) -> Result<(), RunError> {
        if Instant::now() < self.state.not_before {
            return Ok(());
        }
        if let Err(error) = self.try_recover() {
            return self.failed(error, "kafka is not ready, trying again");
        }
        Ok(())
    }

    fn try_recover(&mut self) -> KafkaResult<()> {
        if self.writer.is_closed() {
            self.writer.open()?;
        }
        if !self.state.arrivals.is_empty() {
            let starts = self.group.starts(&self.state.arrivals)?;
            self.group.assign(&starts)?;
            self.state.arrivals.clear();
            self.open(starts);
        }
        if !self.state.rewinds.is_empty() {
            let starts = self.group.starts(&self.state.rewinds)?;
            self.group.rewind(&starts)?;
            self.state.rewinds.clear();
            self.open(starts);
        }
        Ok(())
    }

    fn open(&mut self, starts: HashMap<Place, Start>) {
        for ((_, number), start) in starts {
            tracing::info!(
                stage = S::NAME,
                partition = number,
                committed = start.committed,
                low_water = start.low_water,
                "reading partition"
            );
            self.state.epoch += 1;
            let partition = Partition::new(self.state.epoch, start);
            self.state.partitions.insert(number, partition);
        }
    }

    /// Counts a failure and sets when to try again; an error that no waiting mends stops the stage.
    fn failed(&mut self, error: KafkaError, what: &'static str) -> Result<(), RunError> {
        self.state.failures += 1;
        let stage = S::NAME;
        if !is_passing(&error) || self.writer.is_fenced_for_good(&error) {
            return Err(RunError::Kafka { stage, error });
        }
        let pause = backoff(self.state.failures, &self.shared.settings);
        tracing::warn!(stage, %error, pause_ms = pause.as_millis(), "{what}");
        self.state.not_before = Instant::now() + pause;
        Ok(())
    }
}

fn numbers(places: &[Place]) -> Vec<i32> {
    places.iter().map(|(_, number)| *number).collect()
}
