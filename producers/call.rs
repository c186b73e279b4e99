//! What every producer does alike: gives a call its ids, its key, its `Started` and `Ended`.

use std::time::Duration;

use pipeline::producer::Producer;
use pipeline::{CallKey, Field, Sealer, TraceContext};
use schemas::{Body, EndReason, Ended, Event, EventId, Head, Item, Speaker, Started};
use tokio::time::Instant;

/// Why a call cannot be brought in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The call's data key cannot be had.
    #[error(transparent)]
    Seal(#[from] pipeline::SealError),
    /// Kafka does not take the record.
    #[error(transparent)]
    Produce(#[from] pipeline::producer::ProduceError),
}

/// What is known of a call before its first word.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the call; unique.
    pub id: String,
    /// Customer organisation it belongs to.
    pub tenant: String,
    /// Id of the rep.
    pub rep: String,
    /// The customer's name or number; sealed before it leaves.
    pub customer: Option<String>,
    /// `auto` or a language.
    pub language: String,
    /// Who speaks on each audio channel, in channel order.
    pub channels: Vec<Speaker>,
    /// How it came in, for example `wav`.
    pub source: &'static str,
}

/// A call being brought in: its story so far.
pub struct Story<'a> {
    call: Call,
    producer: &'a Producer,
    key: CallKey,
    started_at: i64,
    written: u32,
    trace: TraceContext,
}

impl<'a> Story<'a> {
    /// Begins a call on the topic of `T`, at `started_at` (milliseconds since 1970).
    ///
    /// # Errors
    /// When it cannot be sealed or written.
    pub async fn begin<T: Item>(
        call: Call,
        started_at: i64,
        producer: &'a Producer,
        sealer: &Sealer,
    ) -> Result<Self, CallError> {
        let key = sealer.create(&call.tenant, &call.id).await?;
        let customer = match &call.customer {
            Some(customer) => Some(key.seal(Field::CUSTOMER, customer.as_bytes())?),
            None => None,
        };
        let started = Started {
            rep: call.rep.clone(),
            customer,
            language: call.language.clone(),
            source: call.source.to_owned(),
            channels: call.channels.clone(),
            started_at,
        };
        let mut story = Self {
            call,
            producer,
            key,
            started_at,
            written: 0,
            trace: TraceContext::start(),
        };
        story.write::<T>(0, Body::Started(started)).await?;
        Ok(story)
    }

    /// The call's data key.
    pub fn key(&self) -> &CallKey {
        &self.key
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.call.id
    }

    /// Who speaks on a channel.
    pub fn speaker(&self, channel: usize) -> Option<Speaker> {
        self.call.channels.get(channel).copied()
    }

    /// Writes what happened until `at_ms` into the call.
    ///
    /// # Errors
    /// When Kafka does not take it.
    pub async fn add<T: Item>(&mut self, at_ms: i64, item: T) -> Result<EventId, CallError> {
        self.write(at_ms, Body::Item(item)).await
    }

    /// Ends the call after `duration_ms`.
    ///
    /// # Errors
    /// When Kafka does not take it.
    pub async fn end<T: Item>(
        mut self,
        duration_ms: i64,
        reason: EndReason,
        utterances: Option<i32>,
    ) -> Result<(), CallError> {
        let ended = Ended {
            reason,
            duration_ms,
            utterances,
            transcribed_ms: None,
            conversation: None,
            objections: None,
            next_step: None,
        };
        self.write::<T>(duration_ms, Body::Ended(ended)).await?;
        Ok(())
    }

    async fn write<T: Item>(&mut self, at_ms: i64, body: Body<T>) -> Result<EventId, CallError> {
        // The id derives from the call and the place in it: a producer that tries again writes
        // the same event.
        let event_id = EventId::derive(T::TOPIC.name, &self.call.id, self.written);
        let head = Head {
            event_id,
            call_id: self.call.id.clone(),
            tenant: self.call.tenant.clone(),
            time: self.started_at + at_ms,
        };
        self.producer
            .send(&Event { head, body }, &self.trace)
            .await?;
        self.written += 1;
        Ok(event_id)
    }
}

/// Plays call time at a pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    began: Instant,
    speed: f64,
}

impl Pace {
    /// Starts now; `speed` 1 is real time, 4 four times as fast, 0 as fast as it goes.
    pub fn start(speed: f64) -> Self {
        Self {
            began: Instant::now(),
            speed,
        }
    }

    /// When `at_ms` of the call is due; none when nothing waits.
    pub fn due(&self, at_ms: i64) -> Option<Instant> {
        let seconds = Duration::from_millis(at_ms.max(0).unsigned_abs()).as_secs_f64() / self.speed;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|wait| self.began + wait)
    }

    /// Waits until `at_ms` of the call is due.
    pub async fn wait(&self, at_ms: i64) {
        if self.speed > 0.0
            && let Some(due) = self.due(at_ms)
        {
            tokio::time::sleep_until(due).await;
        }
    }
}
