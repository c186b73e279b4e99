//! One record through the stage: decode, recognise, process, encode. Runs on the async threads;
//! knows nothing of offsets and transactions.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rand::RngExt;
use schemas::{Body, CodecError, Event, Item};
use tracing::Instrument;

use super::measures::{Measures, age};
use super::memory::Memory;
use super::settings::Settings;
use super::window::Turn;
use crate::dead_letter::{OutRecord, RawRecord};
use crate::replay::{Kind, Mark};
use crate::watchdog::Progress;
use crate::{Decoder, Envelope, Outbox, Poison, Stage, StageError, headers};

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It gave events.
    Emitted {
        /// The events' records.
        records: Vec<OutRecord>,
        /// The input's event time.
        time: i64,
    },
    /// It gave none, for this reason.
    Skipped(&'static str),
    /// No retry can help.
    Dead(Box<RawRecord>, Poison),
    /// The stage is broken.
    Fatal(anyhow::Error),
}

/// A record that is finished.
pub(crate) struct Worked {
    pub outcome: Outcome,
    pub turn: Turn,
}

/// What the work on all records of a stage shares.
pub(crate) struct Shared<S> {
    pub stage: S,
    pub decoder: Decoder,
    pub settings: Settings,
    pub measures: Measures,
    pub progress: Arc<Progress>,
    /// Output topic, on the broker.
    pub output: String,
    /// The shadow that this is the work of: all that is made carries its mark.
    pub shadow: Option<Mark>,
}

impl<S: Stage> Shared<S> {
    /// Takes one record of a call through the stage. A panic on the way breaks the stage.
    pub async fn work(
        &self,
        memory: &mut Memory<S::Call>,
        raw: RawRecord,
        rebuilding: bool,
    ) -> Worked {
        let at = place(&raw);
        let work = AssertUnwindSafe(self.work_unguarded(memory, raw, rebuilding));
        match work.catch_unwind().await {
            Ok(worked) => worked,
            Err(panic) => Worked {
                outcome: Outcome::Fatal(panicked(panic.as_ref()).context(at)),
                turn: Turn::Goes,
            },
        }
    }

    async fn work_unguarded(
        &self,
        memory: &mut Memory<S::Call>,
        raw: RawRecord,
        rebuilding: bool,
    ) -> Worked {
        let begun = Instant::now();
        let mark = Mark::of(&raw.headers);
        if mark.as_ref().is_some_and(|mark| !self.admits(mark)) {
            return Worked {
                outcome: Outcome::Skipped("replayed"),
                turn: Turn::Goes,
            };
        }
        let event = match self.decode(&raw).await {
            Ok(event) => event,
            Err(StageError::Poison(poison)) => {
                return Worked {
                    outcome: Outcome::Dead(Box::new(raw), poison),
                    turn: Turn::Goes,
                };
            }
            Err(error) => {
                return Worked {
                    outcome: Outcome::Fatal(error.into()),
                    turn: Turn::Goes,
                };
            }
        };
        let timeout = i64::try_from(self.settings.call_timeout_s * 1_000).unwrap_or(i64::MAX);
        if memory.is_expired(raw.timestamp, timeout) {
            self.measures.expired_calls.inc();
            *memory = Memory::new();
        }
        memory.newest = memory.newest.max(raw.timestamp);
        // What is redriven for this stage was seen before, and came to nothing.
        let again = mark.as_ref().is_some_and(|mark| mark.stage.is_some());
        if memory.is_duplicate(event.head.event_id) && !again {
            return Worked {
                outcome: Outcome::Skipped("duplicate"),
                turn: Turn::Goes,
            };
        }
        let turn = match event.body {
            Body::Started(_) => Turn::Opens,
            Body::Ended(_) => Turn::Ends,
            Body::Item(_) => Turn::Goes,
        };
        if !rebuilding {
            self.measures.record_age.observe(age(raw.timestamp));
        }
        let outcome = self
            .attempt(&mut memory.call, event, (raw, mark), rebuilding)
            .await;
        match turn {
            Turn::Opens => memory.open = true,
            Turn::Ends => memory.open = false,
            Turn::Goes => {}
        }
        if !memory.open {
            *memory = Memory::new();
        }
        self.progress.moved();
        self.measures
            .processing
            .observe(begun.elapsed().as_secs_f64());
        Worked { outcome, turn }
    }

    /// Whether the stage may see a replayed record.
    fn admits(&self, mark: &Mark) -> bool {
        let own = self.shadow.is_some() && mark.kind == Kind::Shadow;
        own || S::EFFECTS.admit(S::NAME, mark)
    }

    /// Hands the event to the stage until it is taken or refused for good.
    async fn attempt(
        &self,
        call: &mut S::Call,
        event: Event<S::In>,
        (raw, mark): (RawRecord, Option<Mark>),
        rebuilding: bool,
    ) -> Outcome {
        let span = tracing::debug_span!(
            "process",
            stage = S::NAME,
            call = %event.head.call_id,
            partition = raw.origin.partition,
            offset = raw.origin.offset,
        );
        let input = Envelope {
            event,
            origin: raw.origin.clone(),
            timestamp: raw.timestamp,
            trace: raw.trace(),
            rebuilding,
        };
        let mut tries = 0;
        loop {
            let mut out = Outbox::new(S::NAME, input.event.head.clone());
            let process = self.stage.process(call, &input, &mut out);
            let error = match process.instrument(span.clone()).await {
                Ok(()) => return self.emitted(out, &input, mark.as_ref()),
                Err(error) => error,
            };
            match error {
                StageError::Poison(poison) => return Outcome::Dead(Box::new(raw), poison),
                StageError::Skip(reason) => return Outcome::Skipped(reason),
                StageError::Fatal(error) => return Outcome::Fatal(error.context(place(&raw))),
                StageError::Transient(error) => {
                    tries += 1;
                    self.pause(tries, &error, &raw).await;
                }
            }
        }
    }

    fn emitted(
        &self,
        out: Outbox<S::Out>,
        input: &Envelope<Event<S::In>>,
        mark: Option<&Mark>,
    ) -> Outcome {
        let (events, skipped) = out.into_parts();
        if events.is_empty() {
            return Outcome::Skipped(skipped.unwrap_or("nothing"));
        }
        if input.rebuilding {
            return Outcome::Skipped("rebuilding");
        }
        let mark = self.shadow.as_ref().or(mark).map(Mark::made);
        let encode = |event: &Event<S::Out>| {
            let headers = headers::with_trace(&input.trace.next());
            Ok(OutRecord {
                topic: self.output.clone(),
                key: Some(event.head.call_id.clone().into_bytes()),
                payload: Some(self.decoder.codec().encode(event)?),
                headers: match &mark {
                    Some(mark) => mark.put(headers),
                    None => headers,
                },
            })
        };
        match events.iter().map(encode).collect::<Result<_, CodecError>>() {
            Ok(records) => Outcome::Emitted {
                records,
                time: input.event.head.time,
            },
            Err(error) => Outcome::Fatal(anyhow::Error::new(error).context("encode an event")),
        }
    }

    async fn decode(&self, raw: &RawRecord) -> Result<Event<S::In>, StageError> {
        let mut tries = 0;
        let event = loop {
            match self.decoder.event::<S::In>(raw).await {
                Err(StageError::Transient(error)) => {
                    tries += 1;
                    self.pause(tries, &error, raw).await;
                }
                decoded => break decoded?,
            }
        };
        keyed(raw, &event)?;
        Ok(event)
    }

    async fn pause(&self, tries: u32, error: &anyhow::Error, raw: &RawRecord) {
        self.measures.retries.inc();
        self.progress.moved();
        let pause = backoff(tries, &self.settings);
        tracing::warn!(
            stage = S::NAME,
            partition = raw.origin.partition,
            offset = raw.origin.offset,
            tries,
            pause_ms = pause.as_millis(),
            error = format!("{error:#}"),
            "transient error, trying again"
        );
        tokio::time::sleep(pause).await;
    }
}

/// A record whose key is not its call would break the call's order.
fn keyed<T: Item>(raw: &RawRecord, event: &Event<T>) -> Result<(), Poison> {
    if raw.key.as_deref() == Some(event.head.call_id.as_bytes()) {
        return Ok(());
    }
    Err(Poison::new("key", "the record's key is not its call id"))
}

fn place(raw: &RawRecord) -> String {
    format!(
        "at {}/{}/{}",
        raw.origin.topic, raw.origin.partition, raw.origin.offset
    )
}

/// Doubles from the first pause to the longest, with up to half of it taken off at random.
pub(crate) fn backoff(tries: u32, settings: &Settings) -> Duration {
    let doubled = settings
        .retry_ms
        .saturating_mul(1 << tries.saturating_sub(1).min(20));
    let longest = doubled.min(settings.retry_max_ms).max(1);
    Duration::from_millis(rand::rng().random_range(longest.div_ceil(2)..=longest))
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    anyhow::anyhow!("panicked: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let settings = Settings {
            retry_ms: 100,
            retry_max_ms: 1_000,
            ..Settings::default()
        };
        for (tries, longest) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (4_000, 1_000)] {
            for _ in 0..100 {
                let pause = backoff(tries, &settings).as_millis();
                assert!((longest / 2..=longest).contains(&pause), "{tries}: {pause}");
            }
        }
    }
}
