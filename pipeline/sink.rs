//! Runs a sink: see [`run`].
//!
//! One thread polls the consumer and commits; a task writes. A batch is written, its dead letters
//! are acknowledged, and only then its offsets are committed: whatever happens in between, the
//! batch is read and written again, and the sink is idempotent on event ids.

mod batch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use self::batch::{Batch, Written};
use crate::dead_letter::RawRecord;
use crate::kafka::is_passing;
use crate::runner::group::{Change, Group, Place, Polled};
use crate::runner::measures::{Measures, age};
use crate::runner::{self, RunError, Settings, work};
use crate::telemetry::Part;
use crate::watchdog::Progress;
use crate::{Decoder, Deps, Kafka, Producer, Sink};

/// The longest the thread sleeps.
const TICK: Duration = Duration::from_millis(100);
/// How long a write may take before partitions are paused and the consumer is polled meanwhile.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// Runs a sink until `shutdown`: reads its topics, writes batches of whatever has arrived, and
/// commits the offsets after each. Waits for brokers and topics that are not there yet. The part
/// of the process's health that has the sink's name is ready while the sink has its partitions and
/// the brokers are there.
///
/// # Errors
/// [`RunError`]; nothing is lost, whoever starts the sink again goes on where it stopped.
pub async fn run<S: Sink>(
    sink: S,
    kafka: &Kafka,
    settings: &Settings,
    deps: &Deps,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let part = deps.health.part(S::NAME);
    let topics: Vec<String> = S::TOPICS.iter().map(|topic| kafka.topic(topic)).collect();
    let dead = S::TOPICS.iter().map(|topic| kafka.dead(topic));
    let needed: Vec<String> = topics.iter().cloned().chain(dead).collect();
    if !runner::ready(S::NAME, kafka, &needed, &shutdown).await? {
        return Ok(());
    }
    let measures = Measures::register(&deps.metrics, S::NAME).map_err(runner::fatal(S::NAME))?;
    let progress = Arc::new(Progress::new());
    let (tell, wakes) = std::sync::mpsc::channel();
    let look = tell.clone();
    // Once the driver is gone nobody needs waking.
    let wake = move || drop(look.send(Wake::Look));
    let lag = measures.lag.clone();
    let group =
        Group::join(kafka, S::NAME, &topics, settings, lag, wake.clone()).map_err(|error| {
            RunError::Kafka {
                stage: S::NAME,
                error,
            }
        })?;
    let stop = shutdown.child_token();
    let letters = Producer::new(kafka, Arc::clone(&deps.codec)).map_err(runner::fatal(S::NAME))?;
    let batch = Batch {
        sink,
        kafka: kafka.clone(),
        decoder: Decoder::from(deps),
        settings: settings.clone(),
        measures,
        progress: Arc::clone(&progress),
        letters,
        flood: tokio::sync::Mutex::new(crate::dead_letter::Flood::new(settings.poison_limit)),
    };
    let driver = Driver {
        batch: Arc::new(batch),
        runtime: tokio::runtime::Handle::current(),
        group,
        wakes,
        tell,
        shutdown: stop.clone(),
        part,
        joined: false,
        read: Vec::new(),
        places: Vec::new(),
        arrivals: Vec::new(),
        rewinds: Vec::new(),
        failures: 0,
        not_before: Instant::now(),
    };
    runner::supervise(S::NAME, settings, &progress, (stop, wake), move || {
        driver.run()
    })
    .await
}

enum Wake {
    /// There may be something to poll.
    Look,
    /// The batch is written, or cannot be.
    Written(Result<Written, RunError>),
}

struct Driver<S: Sink> {
    batch: Arc<Batch<S>>,
    runtime: tokio::runtime::Handle,
    group: Group,
    wakes: Receiver<Wake>,
    tell: Sender<Wake>,
    shutdown: CancellationToken,
    part: Part,
    /// Whether the group has said which partitions there are to read, if any.
    joined: bool,
    /// Read and not written.
    read: Vec<RawRecord>,
    /// Taken partitions.
    places: Vec<Place>,
    /// Given by the group, not taken yet.
    arrivals: Vec<Place>,
    /// Taken, to be read again from what is committed.
    rewinds: Vec<Place>,
    failures: u32,
    not_before: Instant,
}

impl<S: Sink> Driver<S> {
    fn run(mut self) -> Result<(), RunError> {
        let stopped = self.rounds();
        self.part.ready(false);
        self.group.leave();
        stopped
    }

    fn rounds(&mut self) -> Result<(), RunError> {
        while !self.shutdown.is_cancelled() {
            self.batch.progress.tick(!self.read.is_empty());
            if self.read.is_empty() {
                // Only sleeps here: between batches nothing else can be told.
                let _ = self.wakes.recv_timeout(TICK);
                while self.wakes.try_recv().is_ok() {}
            }
            self.fetch()?;
            while let Some(change) = self.group.change() {
                self.change(change)?;
            }
            self.recover()?;
            self.write()?;
            self.check()?;
            self.part.ready(self.is_ready());
        }
        self.write()
    }

    /// Whether the sink does its work: it has its partitions, or knows that there are none for it,
    /// and the brokers are there.
    fn is_ready(&self) -> bool {
        self.joined && self.arrivals.is_empty() && self.rewinds.is_empty() && !self.group.is_alone()
    }

    fn fetch(&mut self) -> Result<(), RunError> {
        while self.read.len() < self.batch.settings.batch.max(1) {
            let raw = match self.group.poll().map_err(refused::<S>)? {
                None => break,
                Some(Polled::End(_)) => continue,
                Some(Polled::Record(raw)) => raw,
            };
            let place = (raw.origin.topic.clone(), raw.origin.partition);
            if self.places.contains(&place) && !self.rewinds.contains(&place) {
                self.read.push(raw);
            }
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), RunError> {
        let places = match change {
            Change::Assigned(places) => {
                tracing::info!(stage = S::NAME, ?places, "partitions assigned");
                if places.is_empty() {
                    // The group waits for an answer even when there is nothing to take.
                    self.group.assign(&HashMap::new()).map_err(refused::<S>)?;
                }
                self.arrivals.extend(places);
                self.joined = true;
                return Ok(());
            }
            Change::Revoked(places) => {
                tracing::info!(stage = S::NAME, ?places, "handing partitions over");
                self.write()?;
                places
            }
            Change::Lost(places) => {
                tracing::warn!(stage = S::NAME, ?places, "partitions were taken away");
                self.joined = false;
                places
            }
        };
        // The group waits for each answer in turn: what was given is taken before it is returned.
        let arrivals = std::mem::take(&mut self.arrivals);
        if !arrivals.is_empty() {
            self.group.take_unread(&arrivals).map_err(refused::<S>)?;
        }
        let stays = |place: &Place| !places.contains(place);
        self.places.retain(stays);
        self.rewinds.retain(stays);
        self.read
            .retain(|raw| stays(&(raw.origin.topic.clone(), raw.origin.partition)));
        self.group.unassign(&places);
        Ok(())
    }

    /// Writes what was read and commits its offsets.
    fn write(&mut self) -> Result<(), RunError> {
        if self.read.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.read);
        let offsets = offsets(&records).map_err(refused::<S>)?;
        let begun = Instant::now();
        let Some(written) = self.wait_for_write(records)? else {
            return self.start_over();
        };
        if let Err(error) = self.group.commit(&offsets) {
            self.failed(
                error,
                "offsets were not committed, their records are written again",
            )?;
            return self.start_over();
        }
        self.failures = 0;
        self.batch.progress.moved();
        let measures = &self.batch.measures;
        measures.transaction.observe(begun.elapsed().as_secs_f64());
        measures.transaction_records.observe(written.records as f64);
        for time in written.times {
            measures.event_age.observe(age(time));
        }
        Ok(())
    }

    /// Waits until the batch is written, however long that takes; `None` when partitions are to be
    /// handed over or the process stops, and the drain deadline has passed.
    fn wait_for_write(&mut self, records: Vec<RawRecord>) -> Result<Option<Written>, RunError> {
        let (batch, tell) = (Arc::clone(&self.batch), self.tell.clone());
        let task = self.runtime.spawn(async move {
            let written = batch.write_guarded(records).await;
            // The driver listens as long as the write matters.
            let _ = tell.send(Wake::Written(written));
        });
        let begun = Instant::now();
        let mut asked = None;
        loop {
            self.batch.progress.tick(true);
            if let Ok(Wake::Written(written)) = self.wakes.recv_timeout(TICK) {
                self.group.pause(false).map_err(refused::<S>)?;
                return written.map(Some);
            }
            if begun.elapsed() > PAUSE_AFTER {
                self.group.pause(true).map_err(refused::<S>)?;
                self.fetch()?;
            }
            if self.shutdown.is_cancelled() || self.group.is_asked() {
                let since = *asked.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_millis(self.batch.settings.drain_ms) {
                    task.abort();
                    return Ok(None);
                }
            }
        }
    }

    /// Forgets what was read, to read it again from what is committed.
    fn start_over(&mut self) -> Result<(), RunError> {
        self.batch.measures.transactions_failed.inc();
        self.read.clear();
        self.rewinds.clone_from(&self.places);
        self.group.pause(true).map_err(refused::<S>)
    }

    fn recover(&mut self) -> Result<(), RunError> {
        if Instant::now() < self.not_before {
            return Ok(());
        }
        match self.try_recover() {
            Ok(()) => Ok(()),
            Err(error) => self.failed(error, "kafka is not ready, trying again"),
        }
    }

    fn try_recover(&mut self) -> KafkaResult<()> {
        if !self.arrivals.is_empty() {
            let starts = committed(&self.group, &self.arrivals)?;
            self.group.assign(&starts)?;
            self.places.append(&mut self.arrivals);
        }
        if !self.rewinds.is_empty() {
            let starts = committed(&self.group, &self.rewinds)?;
            self.group.rewind(&starts)?;
            self.rewinds.clear();
        }
        // Also when what was to be read again has been taken away meanwhile: nothing else would let the next partitions
        // go on.
        self.group.pause(false)
    }

    fn check(&mut self) -> Result<(), RunError> {
        let limit = Duration::from_secs(self.batch.settings.stuck_s);
        match self.group.silent(limit) {
            None => Ok(()),
            Some((topic, partition)) => Err(RunError::Stuck {
                stage: S::NAME,
                detail: format!("the consumer gives nothing of {topic}/{partition}"),
            }),
        }
    }

    fn failed(&mut self, error: KafkaError, what: &'static str) -> Result<(), RunError> {
        self.failures += 1;
        let stage = S::NAME;
        if !is_passing(&error) {
            return Err(RunError::Kafka { stage, error });
        }
        let pause = work::backoff(self.failures, &self.batch.settings);
        tracing::warn!(stage, %error, pause_ms = pause.as_millis(), "{what}");
        self.not_before = Instant::now() + pause;
        Ok(())
    }
}

/// Where a sink begins: it keeps no state to rebuild.
fn committed(
    group: &Group,
    places: &[Place],
) -> KafkaResult<HashMap<Place, crate::runner::group::Start>> {
    let mut starts = group.starts(places)?;
    for start in starts.values_mut() {
        start.low_water = start.committed;
    }
    Ok(starts)
}

/// The offset after the newest record of each partition.
fn offsets(records: &[RawRecord]) -> KafkaResult<TopicPartitionList> {
    let mut next: HashMap<(&str, i32), i64> = HashMap::new();
    for raw in records {
        let place = (raw.origin.topic.as_str(), raw.origin.partition);
        next.insert(place, raw.origin.offset + 1);
    }
    let mut offsets = TopicPartitionList::new();
    for ((topic, partition), offset) in next {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    Ok(offsets)
}

fn refused<S: Sink>(error: KafkaError) -> RunError {
    RunError::Kafka {
        stage: S::NAME,
        error,
    }
}
