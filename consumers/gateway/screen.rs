//! `GET /v1/events`: the stream of server-sent events that one screen gets.
//!
//! | event | says |
//! |---|---|
//! | `snapshot` | forget what you knew: the whole of the rep's current call follows |
//! | `live` | nothing more is waiting; `now` is the gateway's clock |
//! | `call` | the call started or ended; may come more than once, and says more each time |
//! | `utterance`, `insight`, `tip`, `feedback` | a step of the call, once |
//! | `tip-expired` | the tip must not be on the screen any more |
//!
//! A step's id is the screen's [`Position`] after it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::response::sse::Event;
use futures::Stream;
use pipeline::{CallKey, SealError, Sealer};
use schemas::EventId;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::calls::Subscription;
use super::frame::{Frame, Story};
use super::metrics::Metrics;
use super::position::Position;
use pipeline::clock;

/// How often a key store that does not answer is asked again before the stream is given up; the
/// screen then resumes by itself.
const KEY_TRIES: u32 = 5;
const KEY_WAIT: Duration = Duration::from_millis(200);
/// How soon a browser comes back.
const RETRY: Duration = Duration::from_secs(1);

/// One screen.
pub struct Screen {
    /// What it gets.
    pub subscription: Subscription,
    /// Opens what is personal.
    pub sealer: Sealer,
    /// Where deliveries are counted.
    pub metrics: Metrics,
    /// When its token expires.
    pub until: Instant,
    /// Ends the stream when the gateway stops.
    pub stop: CancellationToken,
}

impl Screen {
    /// The stream; ends with the token, the gateway, or when the screen is too slow.
    pub fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        let Self {
            subscription,
            sealer,
            metrics,
            until,
            stop,
        } = self;
        let Subscription {
            resumed,
            call_id,
            backlog,
            mut live,
        } = subscription;
        let mut writer = Writer {
            position: resumed,
            sealer,
            expiring: BTreeSet::new(),
        };
        let connected = Connected::new(&metrics);
        stream! {
            let _connected = connected;
            yield Ok(Event::default().retry(RETRY).comment("sales coach"));
            if writer.position.is_none() {
                yield Ok(event("snapshot", &json!({"call_id": call_id})));
            }
            for frame in backlog {
                match writer.write(&frame).await {
                    Ok(event) => yield Ok(event),
                    Err(()) => return,
                }
            }
            yield Ok(event("live", &json!({"now": clock::now()})));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep_until(until) => return,
                    tip = writer.expired() => {
                        yield Ok(event("tip-expired", &json!({"id": tip})));
                    }
                    frame = live.recv() => {
                        let Some(frame) = frame else { return };
                        if writer.has_seen(&frame) {
                            continue;
                        }
                        if is_late(&frame, &metrics) {
                            writer.pass(&frame);
                            continue;
                        }
                        match writer.write(&frame).await {
                            Ok(event) => {
                                observe(&frame, &metrics);
                                yield Ok(event);
                            }
                            Err(()) => return,
                        }
                    }
                }
            }
        }
    }
}

/// A tip that waited for its screen past its deadline is dropped and counted, never shown.
fn is_late(frame: &Frame, metrics: &Metrics) -> bool {
    match &frame.story {
        Story::Tip(_, tip) if tip.expires_at <= clock::now() => {
            metrics.tips_late.inc();
            true
        }
        _ => false,
    }
}

fn observe(frame: &Frame, metrics: &Metrics) {
    if let Story::Tip(_, tip) = &frame.story {
        let millis = clock::now().saturating_sub(tip.spoken_at).max(0);
        metrics.tip_delivery.observe(millis as f64 / 1000.0);
    }
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// Writes frames, and knows where the screen stands.
struct Writer {
    position: Option<Position>,
    sealer: Sealer,
    expiring: BTreeSet<(i64, EventId)>,
}

impl Writer {
    /// The event for a frame. `Err` when its key cannot be had now.
    async fn write(&mut self, frame: &Frame) -> Result<Event, ()> {
        let key = if frame.is_personal() {
            key(&self.sealer, &frame.call_id).await?
        } else {
            None
        };
        if let Story::Tip(id, tip) = &frame.story
            && tip.expires_at > clock::now()
        {
            self.expiring.insert((tip.expires_at, *id));
        }
        let data = frame.data(key.as_ref());
        let position = self.pass(frame).to_string();
        Ok(event(frame.name(), &data).id(position))
    }

    /// Whether the screen has seen it at another gateway, which was ahead of this one.
    fn has_seen(&self, frame: &Frame) -> bool {
        let position = self.position.as_ref();
        position.is_some_and(|seen| {
            seen.call_id == frame.call_id && seen.covers(frame.source, frame.offset)
        })
    }

    /// Moves the screen past a frame.
    fn pass(&mut self, frame: &Frame) -> &Position {
        let same = |position: &Position| position.call_id == frame.call_id;
        if !self.position.as_ref().is_some_and(same) {
            self.expiring.clear();
            self.position = None;
        }
        let position = self
            .position
            .get_or_insert_with(|| Position::start(frame.call_id.clone()));
        position.advance(frame.source, frame.offset);
        position
    }

    /// Waits for the next tip on the screen to expire.
    async fn expired(&mut self) -> EventId {
        let Some(&(at, tip)) = self.expiring.first() else {
            return std::future::pending().await;
        };
        let left = u64::try_from(at - clock::now()).unwrap_or(0);
        sleep(Duration::from_millis(left)).await;
        self.expiring.remove(&(at, tip));
        tip
    }
}

/// The call's key; `None` when the call was erased or its content cannot be opened here.
async fn key(sealer: &Sealer, call_id: &str) -> Result<Option<CallKey>, ()> {
    for attempt in 1..=KEY_TRIES {
        match sealer.key(call_id).await {
            Ok(key) => return Ok(Some(key)),
            Err(SealError::NoKey(_)) => return Ok(None),
            Err(error) if error.is_transient() => {
                tracing::warn!(call = call_id, attempt, %error, "data key not to be had");
                sleep(KEY_WAIT * attempt).await;
            }
            Err(error) => {
                tracing::error!(call = call_id, %error, "data key does not open");
                return Ok(None);
            }
        }
    }
    Err(())
}

/// Counts a screen while it is connected.
struct Connected(prometheus::IntGauge);

impl Connected {
    fn new(metrics: &Metrics) -> Self {
        metrics.screens.inc();
        Self(metrics.screens.clone())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
