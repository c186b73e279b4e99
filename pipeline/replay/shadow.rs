//! Recorded calls through a stage that is set up otherwise, onto a topic of the replay's own.
//!
//! The stage's work on a record is the very work of the runner; what differs is that the calls come
//! from a stretch of the past, that no group's offsets move, and where the output goes. Whole calls
//! only: those that began within the stretch, each to its end.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schemas::{Body, Event, Item, Topic};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::session::Progress;
use super::{Mark, Pace, ReplayError, Selection, Source, Span, Spans};
use crate::dead_letter::RawRecord;
use crate::kafka::Quiet;
use crate::runner::Settings;
use crate::runner::measures::Measures;
use crate::runner::memory::Memory;
use crate::runner::window::{Finished, Window};
use crate::runner::work::{Outcome, Shared};
use crate::watchdog;
use crate::{Decoder, Deps, Kafka, Producer, Stage, StageError};

/// Records waiting for one lane, at most.
const WAITING: usize = 64;
/// How long a shadow's topic keeps its records, in milliseconds: seven days.
const RETENTION_MS: &str = "604800000";

/// What a shadow runs on.
#[derive(Clone)]
pub struct Shadow {
    /// How Kafka is reached.
    pub kafka: Kafka,
    /// What the stage may use.
    pub deps: Deps,
    /// How many calls at once, pauses after errors.
    pub settings: Settings,
    /// On all that is written.
    pub mark: Mark,
    /// Which calls, by tenant and id.
    pub selection: Selection,
    /// The stretch in which they began.
    pub begun: Spans,
    /// Where to read: from where it goes on, to the end.
    pub read: Spans,
    /// The topic to write, on the broker.
    pub output: String,
    /// Records a second, at most.
    pub rate: Option<u32>,
    /// How far it is.
    pub progress: Arc<Progress>,
}

/// What came of a shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// Calls that began in the stretch.
    pub calls: u64,
    /// Records of theirs that gave events.
    pub emitted: u64,
    /// Records that gave none.
    pub skipped: u64,
    /// Records that the stage refused, by reason.
    pub poison: HashMap<String, u64>,
}

/// The topic on the broker that takes what a shadow makes for `topic`.
pub fn topic(kafka: &Kafka, id: &str, topic: &Topic) -> String {
    format!("{}shadow.{id}.{}", kafka.prefix, topic.name)
}

/// Makes a shadow's topic.
///
/// # Errors
/// When Kafka refuses.
pub async fn make_topic(kafka: &Kafka, name: &str, like: &Topic) -> Result<(), ReplayError> {
    let admin: AdminClient<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let new = NewTopic::new(
        name,
        like.partitions,
        TopicReplication::Fixed(kafka.replication),
    )
    .set("retention.ms", RETENTION_MS);
    for made in admin.create_topics([&new], &AdminOptions::new()).await? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code).into()),
        }
    }
    Ok(kafka.wait_for_topics(&[name.to_owned()]).await?)
}

/// Deletes shadows' topics; those that are not there count as deleted.
///
/// # Errors
/// When Kafka refuses.
pub async fn delete_topics(kafka: &Kafka, names: &[String]) -> Result<(), ReplayError> {
    let admin: AdminClient<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for deleted in admin.delete_topics(&names, &AdminOptions::new()).await? {
        match deleted {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code).into()),
        }
    }
    Ok(())
}

/// The same spans up to the end of each partition: calls that began in them may go on behind.
pub fn to_the_end(begun: &Spans, ends: &Spans) -> Spans {
    let spans = begun.iter().map(|(place, span)| {
        let to = ends.get(place).map_or(span.to, |end| end.to);
        (place.clone(), Span { to, ..*span })
    });
    spans.collect()
}

/// Takes the selected calls through a stage.
///
/// # Errors
/// [`ReplayError::Stage`] when the stage breaks; on a stop; when Kafka refuses.
pub async fn run<S: Stage>(stage: S, shadow: Shadow) -> Result<Shadowed, ReplayError> {
    let shared = Arc::new(Shared {
        stage,
        decoder: Decoder::from(&shadow.deps),
        settings: shadow.settings.clone(),
        measures: Measures::register(&shadow.deps.metrics, S::NAME).map_err(|error| {
            ReplayError::Stage {
                stage: S::NAME,
                error: error.into(),
            }
        })?,
        progress: Arc::new(watchdog::Progress::new()),
        output: shadow.output.clone(),
        shadow: Some(shadow.mark.clone()),
    });
    let producer = Producer::new(&shadow.kafka, Arc::clone(&shadow.deps.codec))?;
    let (tell, finished) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut lanes = Vec::new();
    for _ in 0..shadow.settings.concurrency.max(1) {
        let (lane, records) = mpsc::channel(WAITING);
        tasks.spawn(work(
            Arc::clone(&shared),
            producer.clone(),
            records,
            tell.clone(),
        ));
        lanes.push(lane);
    }
    drop(tell);
    let reading = Reading::<S::In> {
        decoder: shared.decoder.clone(),
        windows: windows(&shadow.read),
        pace: Pace::new(shadow.rate),
        open: HashSet::new(),
        shadowed: Shadowed::default(),
        item: std::marker::PhantomData,
        shadow,
    };
    // The lanes end with this future: on a stop nothing is written after it.
    reading.run(S::NAME, lanes, finished).await
}

/// What a lane has finished: partition, record, and how it counts.
type Done = Result<(i32, Finished<Counted>), ReplayError>;

enum Counted {
    Emitted,
    Skipped,
    Poison(String),
}

/// Works on some of the calls, one record after the other.
async fn work<S: Stage>(
    shared: Arc<Shared<S>>,
    producer: Producer,
    mut records: mpsc::Receiver<RawRecord>,
    tell: mpsc::UnboundedSender<Done>,
) {
    let mut calls: HashMap<Arc<str>, Memory<S::Call>> = HashMap::new();
    while let Some(raw) = records.recv().await {
        let key: Arc<str> = String::from_utf8_lossy(raw.key.as_deref().unwrap_or_default()).into();
        let (partition, offset) = (raw.origin.partition, raw.origin.offset);
        let memory = calls.entry(Arc::clone(&key)).or_insert_with(Memory::new);
        let worked = shared.work(memory, raw, false).await;
        if !memory.open {
            calls.remove(&key);
        }
        let counted = match worked.outcome {
            Outcome::Emitted { records, .. } => write(&producer, records).await,
            Outcome::Skipped(_) => Ok(Counted::Skipped),
            Outcome::Dead(_, poison) => Ok(Counted::Poison(poison.reason.into_owned())),
            Outcome::Fatal(error) => Err(ReplayError::Stage {
                stage: S::NAME,
                error,
            }),
        };
        let done = counted.map(|outcome| {
            let finished = Finished {
                offset,
                call: key,
                turn: worked.turn,
                outcome,
            };
            (partition, finished)
        });
        if tell.send(done).is_err() {
            return;
        }
    }
}

async fn write(
    producer: &Producer,
    records: Vec<crate::dead_letter::OutRecord>,
) -> Result<Counted, ReplayError> {
    for record in records {
        producer.send_record(record).await?;
    }
    Ok(Counted::Emitted)
}

fn windows(spans: &Spans) -> HashMap<i32, Window<Counted>> {
    let windows = spans
        .iter()
        .map(|((_, partition), span)| (*partition, Window::new(span.from, span.from)));
    windows.collect()
}

struct Reading<T> {
    shadow: Shadow,
    decoder: Decoder,
    /// Of each partition, what is read and not finished, and which calls are open: from where to
    /// go on.
    windows: HashMap<i32, Window<Counted>>,
    pace: Pace,
    /// Selected calls that have begun and not ended.
    open: HashSet<Vec<u8>>,
    shadowed: Shadowed,
    item: std::marker::PhantomData<T>,
}

impl<T: Item> Reading<T> {
    async fn run(
        mut self,
        stage: &'static str,
        lanes: Vec<mpsc::Sender<RawRecord>>,
        mut finished: mpsc::UnboundedReceiver<Done>,
    ) -> Result<Shadowed, ReplayError> {
        let progress = Arc::clone(&self.shadow.progress);
        let mut source = Source::open(&self.shadow.kafka, &self.shadow.read)?;
        let mut lanes = Some(lanes);
        loop {
            let record = tokio::select! {
                biased;
                done = finished.recv() => match done {
                    None => return Ok(self.shadowed),
                    Some(done) => {
                        self.finish(done?);
                        continue;
                    }
                },
                record = progress.unless_stopped(source.next()), if lanes.is_some() => record?,
                stopped = progress.unless_stopped(std::future::pending::<()>()) => {
                    stopped?;
                    continue;
                }
            };
            let Some(record) = record else {
                // The lanes end with what they have, and then the loop.
                lanes = None;
                continue;
            };
            let raw = record?;
            progress.advance(1);
            if !self.takes(stage, &raw).await? {
                continue;
            }
            progress.unless_stopped(self.pace.take(1)).await?;
            let Some(window) = self.windows.get_mut(&raw.origin.partition) else {
                continue;
            };
            window.read(raw.origin.offset);
            let lanes = lanes.as_deref().unwrap_or_default();
            if let Some(lane) = lanes.get(lane(raw.key.as_deref(), lanes.len())) {
                // A lane that is gone has said why, or is about to.
                let sent = progress.unless_stopped(lane.send(raw)).await?;
                if sent.is_err() {
                    tracing::debug!(stage, "a lane has ended");
                }
            }
        }
    }

    /// Whether a record is of a call that began in the stretch.
    async fn takes(&mut self, stage: &'static str, raw: &RawRecord) -> Result<bool, ReplayError> {
        let selection = &self.shadow.selection;
        let Some(key) = raw
            .key
            .as_ref()
            .filter(|_| selection.takes_key(raw.key.as_deref()))
        else {
            return Ok(false);
        };
        let event: Event<T> = match self.decoder.event(raw).await {
            Ok(event) => event,
            Err(StageError::Poison(_)) => return Ok(self.open.contains(key)),
            Err(error) => {
                let error = error.into();
                return Err(ReplayError::Stage { stage, error });
            }
        };
        match event.body {
            Body::Started(_) if !self.open.contains(key) => {
                let place = (raw.origin.topic.clone(), raw.origin.partition);
                let begun = self.shadow.begun.get(&place);
                let within = begun.is_some_and(|span| raw.origin.offset < span.to);
                let takes = within && selection.takes(&event.head);
                if takes {
                    self.open.insert(key.clone());
                    self.shadowed.calls += 1;
                }
                Ok(takes)
            }
            Body::Ended(_) => Ok(self.open.remove(key)),
            Body::Started(_) | Body::Item(_) => Ok(self.open.contains(key)),
        }
    }

    fn finish(&mut self, (partition, finished): (i32, Finished<Counted>)) {
        match &finished.outcome {
            Counted::Emitted => self.shadowed.emitted += 1,
            Counted::Skipped => self.shadowed.skipped += 1,
            Counted::Poison(reason) => {
                *self.shadowed.poison.entry(reason.clone()).or_default() += 1;
            }
        }
        let Some(window) = self.windows.get_mut(&partition) else {
            return;
        };
        window.finish(finished);
        let low_water = window.low_water();
        let mut places = self.shadow.read.keys();
        if let Some(place) = places.find(|(_, number)| *number == partition) {
            self.shadow.progress.reach(place.clone(), low_water);
        }
    }
}

/// The lane of a call: always the same.
fn lane(key: Option<&[u8]>, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes.max(1) as u64).unwrap_or(0)
}
