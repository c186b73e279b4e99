//! The one thread of a stage: it polls the consumer, hands records to tasks, gathers what they
//! finish, and commits. Everything that blocks on Kafka happens here, everything that takes time
//! in the stage happens elsewhere.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::group::{Change, Group, Place};
use super::low_water;
use super::memory::Memory;
use super::partition::{Partition, Waiting};
use super::window::Finished;
use super::work::{Outcome, Shared};
use super::writer::Writer;
use crate::dead_letter::{self, Flood, OutRecord};
use crate::kafka::is_passing;
use crate::runner::measures::age;
use crate::{Poison, Stage};

/// The longest the thread sleeps.
const TICK: Duration = Duration::from_millis(100);
/// How long the window may be full before partitions are paused: pausing throws away what was
/// fetched ahead, and not polling for long would cost the membership.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How long a transaction that is mostly dead letters waits for what is in work, so that a flood
/// is seen before it is committed.
const FLOOD_WAIT: Duration = Duration::from_secs(1);
/// How often old calls are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// What wakes the thread.
pub(crate) enum Wake<C> {
    /// There may be something to poll.
    Look,
    /// A record is finished.
    Finished(i32, u64, Finished<Outcome>),
    /// A task is done with a call.
    Home(i32, u64, Arc<str>, Memory<C>),
}

pub(crate) struct Driver<S: Stage> {
    pub shared: Arc<Shared<S>>,
    pub runtime: tokio::runtime::Handle,
    pub group: Group,
    pub writer: Writer,
    pub wakes: Receiver<Wake<S::Call>>,
    pub tell: Sender<Wake<S::Call>>,
    pub shutdown: CancellationToken,
    /// Input topic and its dead letters' topic, on the broker.
    pub input: String,
    pub dead: String,
    pub flood: Flood,
    pub state: State<S::Call>,
}

/// What the driver keeps from round to round.
pub(crate) struct State<C> {
    partitions: HashMap<i32, Partition<C>>,
    /// Given by the group, not taken yet.
    arrivals: Vec<Place>,
    /// Taken, to be read again from what is committed.
    rewinds: Vec<Place>,
    /// Calls with records and without a task.
    ready: VecDeque<(i32, Arc<str>)>,
    epoch: u64,
    /// Since when something is to commit.
    pending_since: Option<Instant>,
    /// Since when the window is full.
    full_since: Option<Instant>,
    failures: u32,
    not_before: Instant,
    tidied: Instant,
}

impl<C> State<C> {
    pub fn new() -> Self {
        Self {
            partitions: HashMap::new(),
            arrivals: Vec::new(),
            rewinds: Vec::new(),
            ready: VecDeque::new(),
            epoch: 0,
            pending_since: None,
            full_since: None,
            failures: 0,
            not_before: Instant::now(),
            tidied: Instant::now(),
        }
    }
}

impl<S: Stage> Driver<S> {
    /// Goes round until shutdown, then finishes what is in work and leaves.
    pub fn run(mut self) -> Result<(), RunError> {
        let stopped = self.rounds();
        self.state.partitions.clear();
        self.group.leave();
        stopped
    }

    fn rounds(&mut self) -> Result<(), RunError> {
        while !self.shutdown.is_cancelled() {
            self.shared.progress.tick(self.in_flight() > 0);
            self.listen(TICK)?;
            self.fetch()?;
            while let Some(change) = self.group.change() {
                self.change(change)?;
            }
            self.recover()?;
            self.start();
            if self.is_due() {
                self.commit()?;
            }
            self.tidy()?;
        }
        self.drain(|_| true)
    }

    /// Sleeps until there is something to do, then takes in all that tasks have finished.
    fn listen(&mut self, longest: Duration) -> Result<(), RunError> {
        let mut wake = self.wakes.recv_timeout(longest).ok();
        while let Some(heard) = wake {
            match heard {
                Wake::Look => {}
                Wake::Finished(number, epoch, finished) => self.finish(number, epoch, finished)?,
                Wake::Home(number, epoch, call, memory) => {
                    if let Some(partition) = current(&mut self.state.partitions, number, epoch)
                        && partition.home(&call, memory)
                    {
                        self.state.ready.push_back((number, call));
                    }
                }
            }
            wake = self.wakes.try_recv().ok();
        }
        Ok(())
    }

    fn finish(
        &mut self,
        number: i32,
        epoch: u64,
        finished: Finished<Outcome>,
    ) -> Result<(), RunError> {
        let Some(partition) = current(&mut self.state.partitions, number, epoch) else {
            return Ok(());
        };
        if let Outcome::Fatal(error) = finished.outcome {
            let stage = S::NAME;
            return Err(RunError::Fatal { stage, error });
        }
        let rebuilt = partition.finish(finished);
        self.shared.measures.rebuilt.inc_by(rebuilt as u64);
        if !partition.pending.is_empty() {
            self.state.pending_since.get_or_insert_with(Instant::now);
        }
        if !partition.window.rebuilding()
            && let Some(since) = partition.rebuilding_since.take()
        {
            let seconds = since.elapsed().as_secs_f64();
            self.shared.measures.rebuild.observe(seconds);
        }
        Ok(())
    }

    /// Reads what is at hand while the window has room.
    fn fetch(&mut self) -> Result<(), RunError> {
        let mut in_flight = self.in_flight();
        let window = self.shared.settings.window;
        if in_flight >= window {
            let since = *self.state.full_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PAUSE_AFTER {
                return Ok(());
            }
            self.kafka(|driver| driver.group.pause(true))?;
        } else if in_flight <= window / 2 && self.state.rewinds.is_empty() {
            self.state.full_since = None;
            self.kafka(|driver| driver.group.pause(false))?;
        }
        // A paused consumer gives no records, and must be polled all the same.
        while in_flight < window || self.group.is_paused() {
            let Some(raw) = self.kafka(|driver| driver.group.poll())? else {
                break;
            };
            let number = raw.origin.partition;
            let Some(partition) = self.state.partitions.get_mut(&number) else {
                continue;
            };
            in_flight += 1;
            if let Some(call) = partition.read(raw) {
                self.state.ready.push_back((number, call));
            }
        }
        Ok(())
    }

    /// Starts tasks for calls that have records.
    fn start(&mut self) {
        let mut running: usize = self.state.partitions.values().map(Partition::running).sum();
        while running < self.shared.settings.concurrency {
            let Some((number, call)) = self.state.ready.pop_front() else {
                return;
            };
            let Some(partition) = self.state.partitions.get_mut(&number) else {
                continue;
            };
            let Some((memory, records)) = partition.start(&call) else {
                continue;
            };
            let turn = turn(
                Arc::clone(&self.shared),
                (number, partition.epoch),
                (Arc::clone(&call), memory),
                records,
                self.tell.clone(),
            );
            let task = self.runtime.spawn(turn);
            partition.started(&call, task.abort_handle());
            running += 1;
        }
    }

    fn change(&mut self, change: Change) -> Result<(), RunError> {
        match change {
            Change::Assigned(places) => {
                tracing::info!(stage = S::NAME, partitions = ?numbers(&places), "partitions assigned");
                if places.is_empty() {
                    // The group waits for an answer even when there is nothing to take.
                    self.kafka(|driver| driver.group.assign(&HashMap::new()))?;
                }
                self.state.arrivals.extend(places);
            }
            Change::Revoked(places) => {
                tracing::info!(stage = S::NAME, partitions = ?numbers(&places), "handing partitions over");
                let leaving = numbers(&places);
                self.drain(|number| leaving.contains(&number))?;
                self.give(&places)?;
            }
            Change::Lost(places) => {
                tracing::warn!(stage = S::NAME, partitions = ?numbers(&places), "partitions were taken away");
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
    fn drain(&mut self, which: impl Fn(i32) -> bool) -> Result<(), RunError> {
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

    /// Whether it is time to commit: at once when there is something to write, a little later when
    /// only offsets move.
    fn is_due(&self) -> bool {
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
    fn commit(&mut self) -> Result<(), RunError> {
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

    /// After a transaction that failed, or may have failed: forgets all state, to read it again
    /// from what is committed.
    fn start_over(&mut self, error: KafkaError) -> Result<(), RunError> {
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
    fn recover(&mut self) -> Result<(), RunError> {
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

    fn open(&mut self, starts: HashMap<Place, super::group::Start>) {
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
        let pause = super::work::backoff(self.state.failures, &self.shared.settings);
        tracing::warn!(stage, %error, pause_ms = pause.as_millis(), "{what}");
        self.state.not_before = Instant::now() + pause;
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), RunError> {
        if self.state.tidied.elapsed() < TIDY_EVERY {
            return Ok(());
        }
        self.state.tidied = Instant::now();
        let timeout = i64::try_from(self.shared.settings.call_timeout_s).unwrap_or(i64::MAX);
        let mut open = 0;
        for partition in self.state.partitions.values_mut() {
            let expired = partition.forget_expired(timeout.saturating_mul(1_000));
            self.shared.measures.expired_calls.inc_by(expired as u64);
            open += partition.window.open_calls();
        }
        let measures = &self.shared.measures;
        measures
            .open_calls
            .set(i64::try_from(open).unwrap_or(i64::MAX));
        let limit = Duration::from_secs(self.shared.settings.stuck_s);
        if self.in_flight() > 0 {
            return Ok(());
        }
        match self.group.silent(limit) {
            None => Ok(()),
            Some((topic, partition)) => Err(RunError::Stuck {
                stage: S::NAME,
                detail: format!("the consumer gives nothing of {topic}/{partition}"),
            }),
        }
    }

    fn in_flight(&self) -> usize {
        self.state
            .partitions
            .values()
            .map(Partition::in_flight)
            .sum()
    }

    fn kafka<T>(&mut self, ask: impl FnOnce(&mut Self) -> KafkaResult<T>) -> Result<T, RunError> {
        ask(self).map_err(|error| RunError::Kafka {
            stage: S::NAME,
            error,
        })
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

    fn count(&self, measures: &super::measures::Measures) {
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

/// Works on some records of one call, one after the other.
async fn turn<S: Stage>(
    shared: Arc<Shared<S>>,
    (number, epoch): (i32, u64),
    (call, mut memory): (Arc<str>, Memory<S::Call>),
    records: Vec<Waiting>,
    tell: Sender<Wake<S::Call>>,
) {
    for (raw, rebuilding) in records {
        let offset = raw.origin.offset;
        let worked = shared.work(&mut memory, raw, rebuilding).await;
        let broken = matches!(worked.outcome, Outcome::Fatal(_));
        let finished = Finished {
            offset,
            call: Arc::clone(&call),
            turn: worked.turn,
            outcome: worked.outcome,
        };
        // The driver listens as long as its tasks matter.
        let _ = tell.send(Wake::Finished(number, epoch, finished));
        if broken {
            return;
        }
    }
    let _ = tell.send(Wake::Home(number, epoch, call, memory));
}

fn current<C>(
    partitions: &mut HashMap<i32, Partition<C>>,
    number: i32,
    epoch: u64,
) -> Option<&mut Partition<C>> {
    partitions
        .get_mut(&number)
        .filter(|partition| partition.epoch == epoch)
}

fn numbers(places: &[Place]) -> Vec<i32> {
    places.iter().map(|(_, number)| *number).collect()
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
