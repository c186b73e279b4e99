//! The one thread of a stage: it polls the consumer, hands records to tasks, gathers what they
//! finish, and commits. Everything that blocks on Kafka happens here, everything that takes time
//! in the stage happens elsewhere.

mod commit;
mod handover;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::group::{Group, Place, Polled};
use super::memory::Memory;
use super::partition::{Partition, Waiting};
use super::window::Finished;
use super::work::{Outcome, Shared};
use super::writer::Writer;
use crate::Stage;
use crate::dead_letter::Flood;
use crate::telemetry::Part;

/// The longest the thread sleeps.
const TICK: Duration = Duration::from_millis(100);
/// How long the window may be full before partitions are paused: pausing throws away what was
/// fetched ahead, and not polling for long would cost the membership.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
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
    pub part: Part,
    pub state: State<S::Call>,
}

/// What the driver keeps from round to round.
pub(crate) struct State<C> {
    /// Whether the group has said which partitions there are to read, if any.
    joined: bool,
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
            joined: false,
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
        self.part.ready(false);
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
            self.part.ready(self.is_ready());
        }
        self.drain(|_| true)
    }

    /// Whether the stage does its work: it has its partitions, or knows that there are none for it,
    /// the state of their open calls is rebuilt, and the brokers are there.
    fn is_ready(&self) -> bool {
        let state = &self.state;
        let mut partitions = state.partitions.values();
        state.joined
            && state.arrivals.is_empty()
            && state.rewinds.is_empty()
            && !partitions.any(|partition| partition.window.rebuilding())
            && !self.group.is_alone()
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
        let window = self.shared.settings.window.max(1);
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
            let raw = match self.kafka(|driver| driver.group.poll())? {
                None => break,
                Some(Polled::Record(raw)) => raw,
                Some(Polled::End(number)) => {
                    if let Some(partition) = self.state.partitions.get_mut(&number) {
                        partition.window.end();
                    }
                    continue;
                }
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
        while running < self.shared.settings.concurrency.max(1) {
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
