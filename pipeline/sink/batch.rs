//! A sink's batch: decoded, written, its poison found and dead-lettered.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use schemas::AnyEvent;

use crate::dead_letter::{Flood, RawRecord, letter};
use crate::replay::Mark;
use crate::runner::measures::{Measures, age};
use crate::runner::work::{backoff, panicked};
use crate::runner::{RunError, Settings};
use crate::watchdog::Progress;
use crate::{Decoder, Envelope, Kafka, Poison, Producer, Sink, StageError};

/// What a batch came to.
#[derive(Default)]
pub(super) struct Written {
    pub records: usize,
    /// Event times of what was written.
    pub times: Vec<i64>,
}

/// What the work on all batches of a sink shares.
pub(super) struct Batch<S> {
    pub sink: S,
    pub kafka: Kafka,
    pub decoder: Decoder,
    pub settings: Settings,
    pub measures: Measures,
    pub progress: Arc<Progress>,
    pub letters: Producer,
    pub flood: tokio::sync::Mutex<Flood>,
}

impl<S: Sink> Batch<S> {
    /// Writes a batch. A panic on the way breaks the sink.
    pub async fn write_guarded(&self, records: Vec<RawRecord>) -> Result<Written, RunError> {
        let write = AssertUnwindSafe(self.write(records)).catch_unwind().await;
        write.unwrap_or_else(|panic| Err(broken::<S>(panicked(panic.as_ref()))))
    }

    async fn write(&self, records: Vec<RawRecord>) -> Result<Written, RunError> {
        let mut written = Written {
            records: records.len(),
            times: Vec::new(),
        };
        let (mut events, mut raws, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for raw in records {
            if Mark::of(&raw.headers).is_some_and(|mark| !S::EFFECTS.admit(S::NAME, &mark)) {
                self.count("skipped", "replayed", 1);
                continue;
            }
            self.measures.record_age.observe(age(raw.timestamp));
            match self.decode(&raw).await {
                Ok(event) => {
                    events.push(event);
                    raws.push(raw);
                }
                Err(StageError::Poison(poison)) => dead.push((raw, poison)),
                Err(error) => return Err(broken::<S>(error.into())),
            }
        }
        let decoded = events.len();
        match self.attempt(&events).await {
            Ok(()) => {
                let times = events.iter().map(|event| event.event.head().time);
                written.times.extend(times);
                self.count("written", "", decoded);
            }
            Err(StageError::Poison(_) | StageError::Skip(_)) => {
                for (event, raw) in events.iter().zip(raws) {
                    self.write_one(event, raw, &mut written, &mut dead).await?;
                }
            }
            Err(error) => return Err(broken::<S>(cause(error))),
        }
        self.bury(dead, decoded).await?;
        Ok(written)
    }

    async fn write_one(
        &self,
        event: &Envelope<AnyEvent>,
        raw: RawRecord,
        written: &mut Written,
        dead: &mut Vec<(RawRecord, Poison)>,
    ) -> Result<(), RunError> {
        match self.attempt(std::slice::from_ref(event)).await {
            Ok(()) => {
                written.times.push(event.event.head().time);
                self.count("written", "", 1);
            }
            Err(StageError::Skip(reason)) => self.count("skipped", reason, 1),
            Err(StageError::Poison(poison)) => dead.push((raw, poison)),
            Err(error) => return Err(broken::<S>(cause(error))),
        }
        Ok(())
    }

    /// Hands events to the sink until they are taken or refused for good.
    async fn attempt(&self, events: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        if events.is_empty() {
            return Ok(());
        }
        let begun = std::time::Instant::now();
        let mut tries = 0;
        loop {
            match self.sink.write(events).await {
                Err(StageError::Transient(error)) => {
                    tries += 1;
                    self.pause(tries, &error).await;
                }
                result => {
                    self.progress.moved();
                    let seconds = begun.elapsed().as_secs_f64();
                    self.measures.processing.observe(seconds);
                    return result;
                }
            }
        }
    }

    async fn decode(&self, raw: &RawRecord) -> Result<Envelope<AnyEvent>, StageError> {
        let mut tries = 0;
        loop {
            match self.decoder.any(&self.kafka.prefix, raw).await {
                Err(StageError::Transient(error)) => {
                    tries += 1;
                    self.pause(tries, &error).await;
                }
                decoded => return decoded,
            }
        }
    }

    /// Writes dead letters and waits until the brokers have them; a flood of them stops the sink
    /// first. `good`: records of the batch that are none.
    async fn bury(&self, dead: Vec<(RawRecord, Poison)>, good: usize) -> Result<(), RunError> {
        let mut flood = self.flood.lock().await;
        for _ in 0..good {
            flood.count(false);
        }
        for (_, poison) in &dead {
            if flood.count(true) {
                let (poisoned, records) = flood.seen();
                return Err(RunError::PoisonFlood {
                    stage: S::NAME,
                    poison: poisoned,
                    records,
                    last: poison.clone(),
                });
            }
        }
        for (raw, poison) in dead {
            tracing::warn!(
                stage = S::NAME,
                topic = raw.origin.topic,
                partition = raw.origin.partition,
                offset = raw.origin.offset,
                reason = %poison.reason,
                detail = poison.detail,
                "dead letter"
            );
            let topic = format!("{}.dead", raw.origin.topic);
            let letter = letter(raw, &topic, S::NAME, &poison);
            let sent = self.letters.send_record(letter).await;
            sent.map_err(|error| broken::<S>(error.into()))?;
            self.measures.count("dead_lettered", &poison.reason);
        }
        Ok(())
    }

    fn count(&self, outcome: &str, reason: &str, count: usize) {
        self.measures
            .records
            .with_label_values(&[outcome, reason])
            .inc_by(count as u64);
    }

    async fn pause(&self, tries: u32, error: &anyhow::Error) {
        self.measures.retries.inc();
        self.progress.moved();
        let pause = backoff(tries, &self.settings);
        tracing::warn!(
            stage = S::NAME,
            tries,
            pause_ms = pause.as_millis(),
            error = format!("{error:#}"),
            "transient error, trying again"
        );
        tokio::time::sleep(pause).await;
    }
}

fn cause(error: StageError) -> anyhow::Error {
    match error {
        StageError::Fatal(error) => error,
        other => other.into(),
    }
}

fn broken<S: Sink>(error: anyhow::Error) -> RunError {
    RunError::Fatal {
        stage: S::NAME,
        error,
    }
}
