//! A sink's rows anew from the topics: reads what its live sister read, by the same rules, into a
//! sink that is set up beside it.

use std::collections::BTreeMap;

use futures::FutureExt;
use schemas::AnyEvent;

use super::session::Progress;
use super::{Mark, Pace, ReplayError, Selection, Source, Spans};
use crate::dead_letter::RawRecord;
use crate::runner::Settings;
use crate::runner::work::backoff;
use crate::{Decoder, Envelope, Kafka, Sink, StageError};

/// Where to go on in each partition.
pub type Places = BTreeMap<(String, i32), i64>;

/// What came of the records read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Written.
    pub written: u64,
    /// Not selected.
    pub others: u64,
    /// Replayed records that the sink does not see, live either.
    pub replayed: u64,
    /// Records that no try can help, by reason: dead letters of the live sink.
    pub poison: BTreeMap<String, u64>,
}

impl Filled {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.written += other.written;
        self.others += other.others;
        self.replayed += other.replayed;
        for (reason, count) in other.poison {
            *self.poison.entry(reason).or_default() += count;
        }
    }
}

/// What a sink is filled from.
pub struct Filling<'a, S> {
    /// The sink.
    pub sink: &'a S,
    /// How Kafka is reached.
    pub kafka: &'a Kafka,
    /// Decodes.
    pub decoder: &'a Decoder,
    /// Size of batches and pauses after errors.
    pub settings: &'a Settings,
    /// Which events.
    pub selection: &'a Selection,
    /// How far it is.
    pub progress: &'a Progress,
}

impl<S: Sink> Filling<'_, S> {
    /// Reads the spans to their end. `written` is told after each batch where to go on; what it
    /// keeps is enough to go on after a crash, as the sink is idempotent on event ids.
    ///
    /// # Errors
    /// [`ReplayError::Stage`] when the sink is broken; on a stop; when Kafka refuses.
    pub async fn fill(
        &self,
        spans: &Spans,
        pace: &mut Pace,
        mut written: impl AsyncFnMut(&Places) -> Result<(), ReplayError>,
    ) -> Result<Filled, ReplayError> {
        let mut filled = Filled::default();
        let mut source = Source::open(self.kafka, spans)?;
        while let Some(first) = self.progress.unless_stopped(source.next()).await? {
            let mut records = vec![first?];
            while records.len() < pace.batch(self.settings.batch)
                && let Some(Some(next)) = source.next().now_or_never()
            {
                records.push(next?);
            }
            let paced = pace.take(records.len());
            self.progress.unless_stopped(paced).await?;
            let count = records.len();
            let mut places = Places::new();
            for raw in &records {
                let place = (raw.origin.topic.clone(), raw.origin.partition);
                places.insert(place, raw.origin.offset + 1);
            }
            self.write(records, &mut filled).await?;
            written(&places).await?;
            self.progress.advance(count);
        }
        Ok(filled)
    }

    async fn write(&self, records: Vec<RawRecord>, filled: &mut Filled) -> Result<(), ReplayError> {
        let mut events = Vec::new();
        for raw in records {
            if !self.selection.takes_key(raw.key.as_deref()) {
                filled.others += 1;
                continue;
            }
            if Mark::of(&raw.headers).is_some_and(|mark| !S::EFFECTS.admit(S::NAME, &mark)) {
                filled.replayed += 1;
                continue;
            }
            match self.decode(&raw).await {
                Ok(event) if self.selection.takes(event.event.head()) => events.push(event),
                Ok(_) => filled.others += 1,
                Err(StageError::Poison(poison)) => {
                    *filled.poison.entry(poison.reason.into()).or_default() += 1;
                }
                Err(error) => return Err(broken::<S>(error)),
            }
        }
        match self.attempt(&events).await {
            Ok(()) => filled.written += events.len() as u64,
            Err(StageError::Poison(_) | StageError::Skip(_)) => {
                for event in &events {
                    self.write_one(event, filled).await?;
                }
            }
            Err(error) => return Err(broken::<S>(error)),
        }
        Ok(())
    }

    async fn write_one(
        &self,
        event: &Envelope<AnyEvent>,
        filled: &mut Filled,
    ) -> Result<(), ReplayError> {
        match self.attempt(std::slice::from_ref(event)).await {
            Ok(()) => filled.written += 1,
            Err(StageError::Poison(poison)) => {
                *filled.poison.entry(poison.reason.into()).or_default() += 1;
            }
            Err(StageError::Skip(_)) => filled.others += 1,
            Err(error) => return Err(broken::<S>(error)),
        }
        Ok(())
    }

    /// Hands events to the sink until they are taken or refused for good, or it is to stop.
    async fn attempt(&self, events: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        if events.is_empty() {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match self.sink.write(events).await {
                Err(StageError::Transient(error)) => {
                    tries += 1;
                    self.pause(tries, error).await?;
                }
                result => return result,
            }
        }
    }

    async fn decode(&self, raw: &RawRecord) -> Result<Envelope<AnyEvent>, StageError> {
        let mut tries = 0;
        loop {
            match self.decoder.any(&self.kafka.prefix, raw).await {
                Err(StageError::Transient(error)) => {
                    tries += 1;
                    self.pause(tries, error).await?;
                }
                decoded => return decoded,
            }
        }
    }

    async fn pause(&self, tries: u32, error: anyhow::Error) -> Result<(), StageError> {
        let pause = backoff(tries, self.settings);
        tracing::warn!(
            stage = S::NAME,
            tries,
            pause_ms = pause.as_millis(),
            error = format!("{error:#}"),
            "transient error, trying again"
        );
        let waited = self
            .progress
            .unless_stopped(tokio::time::sleep(pause))
            .await;
        waited.map_err(StageError::fatal)
    }
}

/// What stops a filling: a stop, if that is what it was, else the sink.
fn broken<S: Sink>(error: StageError) -> ReplayError {
    let error = match error {
        StageError::Fatal(error) => error,
        other => other.into(),
    };
    error
        .downcast::<ReplayError>()
        .unwrap_or_else(|error| ReplayError::Stage {
            stage: S::NAME,
            error,
        })
}
