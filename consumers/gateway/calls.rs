//! The open calls as the topics tell them, and who watches which.
//!
//! Everything lies in memory, bounded: so many events a call, so many calls. Personal content
//! stays sealed here; it is opened on its way to a screen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipeline::Envelope;
use schemas::{Action, AnyEvent, Body, EventId, Head, Started};
use tokio::sync::mpsc;

use super::call::{CallView, RepId};
use super::frame::{Frame, Story};
use super::position::{Position, Source};

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open and just ended calls.
    pub calls: usize,
    /// Events of one call; the oldest go first.
    pub events_per_call: usize,
    /// Events waiting for one screen; a screen that falls further behind is cut off and resumes.
    pub waiting: usize,
    /// Screens of one rep.
    pub screens_per_rep: usize,
    /// How long an ended call stays, for a rep who reconnects.
    pub grace: Duration,
    /// How long a call of which nothing is heard stays.
    pub silence: Duration,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of its call, and went to `cut_off` fewer screens than watch it.
    Taken {
        /// Screens that were too slow for it.
        cut_off: usize,
    },
    /// It has no place here.
    Skipped(&'static str),
    /// A tip that came after its deadline: dropped, never shown.
    Late,
}

/// A call, as two tenants may have one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallRef {
    tenant: Arc<str>,
    call_id: Arc<str>,
}

/// One rep's calls and screens.
#[derive(Default)]
struct Desk {
    calls: Vec<CallRef>,
    current: Option<CallRef>,
    screens: Vec<mpsc::Sender<Arc<Frame>>>,
}

#[derive(Default)]
struct Inner {
    calls: HashMap<CallRef, CallView>,
    desks: HashMap<RepId, Desk>,
    tips: HashMap<EventId, CallRef>,
    /// Feedback read at the start before its call: topics come in no order among each other.
    early: HashMap<CallRef, Vec<(Story, Place)>>,
}

/// The open calls.
pub struct Calls {
    limits: Limits,
    inner: Mutex<Inner>,
}

/// What a screen gets: first what it has not seen of the current call, then what comes.
pub struct Subscription {
    /// Where the screen stands; `None` when it must start with the whole of `call_id`.
    pub resumed: Option<Position>,
    /// The rep's current call.
    pub call_id: Option<Arc<str>>,
    /// What it has not seen yet.
    pub backlog: Vec<Arc<Frame>>,
    /// What comes; ends when the screen is too slow.
    pub live: mpsc::Receiver<Arc<Frame>>,
}

/// A tip as feedback needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct TipRef {
    /// Whose screen it was for.
    pub rep: RepId,
    /// Its call.
    pub call_id: Arc<str>,
    /// Whether that action has been recorded already.
    pub recorded: bool,
}

impl Calls {
    /// No calls yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            inner: Mutex::default(),
        }
    }

    /// Takes one event in and hands it to whoever watches. `now` is the wall clock in
    /// milliseconds since 1970; `live` is false while the past is read again at the start.
    pub fn take(&self, envelope: Envelope<AnyEvent>, now: i64, live: bool) -> Outcome {
        let Envelope {
            event,
            origin,
            timestamp,
            ..
        } = envelope;
        let head = event.head().clone();
        if head.call_id.chars().any(char::is_control) {
            return Outcome::Skipped("bad_call_id");
        }
        let Some((source, body)) = split(event) else {
            return Outcome::Skipped("not_for_screens");
        };
        let at = Place {
            source,
            offset: origin.offset,
            timestamp,
            live,
        };
        let mut inner = self.lock();
        if live {
            inner.early.clear();
        }
        match body {
            Body::Started(started) => inner.start(&head, started, at, self.limits),
            Body::Item(Story::Tip(_, tip)) if live && tip.expires_at <= now => Outcome::Late,
            Body::Item(story) => inner.add(&head, story, at, self.limits),
            Body::Ended(ended) => inner.add(&head, Story::Ended(ended), at, self.limits),
        }
    }

    /// Opens a screen for `rep` that stands at `resume`, if it has been open before.
    ///
    /// # Errors
    /// The number of screens that are open already, when one more is too many.
    pub fn watch(
        &self,
        rep: &RepId,
        resume: Option<Position>,
        now: i64,
    ) -> Result<Subscription, usize> {
        let mut inner = self.lock();
        let desk = inner.desks.entry(rep.clone()).or_default();
        desk.screens.retain(|screen| !screen.is_closed());
        if desk.screens.len() >= self.limits.screens_per_rep {
            return Err(desk.screens.len());
        }
        let (screen, live) = mpsc::channel(self.limits.waiting);
        desk.screens.push(screen);
        let current = desk.current.clone();
        let call = current.as_ref().and_then(|call| inner.calls.get(call));
        let call_id = call.map(|call| Arc::clone(&call.call_id));
        let resumed = resume.filter(|position| Some(&position.call_id) == call_id.as_ref());
        let backlog = call.map_or_else(Vec::new, |call| call.since(resumed.as_ref(), now));
        Ok(Subscription {
            resumed,
            call_id,
            backlog,
            live,
        })
    }

    /// The tip of that id, and whether `action` on it has been recorded.
    pub fn tip(&self, tip: EventId, action: Action) -> Option<TipRef> {
        let inner = self.lock();
        let call = inner.calls.get(inner.tips.get(&tip)?)?;
        Some(TipRef {
            rep: call.rep.clone(),
            call_id: Arc::clone(&call.call_id),
            recorded: call.recorded(tip, action),
        })
    }

    /// Forgets ended calls after their grace, and calls of which nothing was heard for long.
    pub fn sweep(&self, now: i64) {
        let mut inner = self.lock();
        let stale: Vec<CallRef> = inner
            .calls
            .iter()
            .filter(|(_, call)| {
                let kept = if call.has_ended() {
                    self.limits.grace
                } else {
                    self.limits.silence
                };
                now - call.heard_at > i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)
            })
            .map(|(call, _)| call.clone())
            .collect();
        for call in stale {
            inner.forget(&call);
        }
        inner.desks.retain(|_, desk| {
            desk.screens.retain(|screen| !screen.is_closed());
            !desk.screens.is_empty() || !desk.calls.is_empty()
        });
    }

    /// How many calls are open (ended ones in their grace not counted).
    pub fn open(&self) -> usize {
        let inner = self.lock();
        inner
            .calls
            .values()
            .filter(|call| !call.has_ended())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a record lies and when it was written.
#[derive(Clone, Copy)]
struct Place {
    source: Source,
    offset: i64,
    timestamp: i64,
    live: bool,
}

impl Inner {
    fn start(&mut self, head: &Head, started: Started, at: Place, limits: Limits) -> Outcome {
        let call = CallRef::of(head);
        if let Some(known) = self.calls.get_mut(&call) {
            known.heard_at = known.heard_at.max(at.timestamp);
            return Outcome::Taken { cut_off: 0 };
        }
        if self.calls.len() >= limits.calls {
            self.forget_oldest();
        }
        let rep = RepId::new(&head.tenant, &started.rep);
        let view = CallView::new(&call.call_id, rep.clone(), started.started_at, at.timestamp);
        let started_at = view.started_at;
        self.calls.insert(call.clone(), view);
        let current = self
            .desks
            .get(&rep)
            .and_then(|desk| desk.current.as_ref())
            .and_then(|current| self.calls.get(current));
        // An old call that is replayed does not push aside the call that is on the line.
        let newest = current.is_none_or(|current| started_at >= current.started_at);
        let desk = self.desks.entry(rep).or_default();
        desk.calls.push(call.clone());
        if newest {
            desk.current = Some(call);
        }
        let early = self.early.remove(&CallRef::of(head)).unwrap_or_default();
        let outcome = self.add(head, Story::Started(started), at, limits);
        for (story, at) in early {
            self.add(head, story, at, limits);
        }
        outcome
    }

    fn add(&mut self, head: &Head, story: Story, at: Place, limits: Limits) -> Outcome {
        let call_ref = CallRef::of(head);
        let Some(call) = self.calls.get_mut(&call_ref) else {
            if !at.live && matches!(story, Story::Feedback(_)) {
                self.early.entry(call_ref).or_default().push((story, at));
                return Outcome::Taken { cut_off: 0 };
            }
            return Outcome::Skipped("unknown_call");
        };
        if let Story::Tip(id, _) = &story
            && self.tips.insert(*id, call_ref.clone()).is_some()
        {
            return Outcome::Skipped("duplicate");
        }
        call.heard_at = call.heard_at.max(at.timestamp);
        let (frame, dropped) = call.add(story, at.source, at.offset, limits.events_per_call);
        if let Some(Story::Tip(id, _)) = dropped.as_deref().map(|frame| &frame.story) {
            self.tips.remove(id);
        }
        let Some(desk) = self.desks.get_mut(&call.rep) else {
            return Outcome::Taken { cut_off: 0 };
        };
        if desk.current.as_ref() != Some(&call_ref) {
            return Outcome::Taken { cut_off: 0 };
        }
        Outcome::Taken {
            cut_off: desk.show(&frame),
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.calls.iter().min_by_key(|(_, call)| call.heard_at);
        if let Some(call) = oldest.map(|(call, _)| call.clone()) {
            self.forget(&call);
        }
    }

    fn forget(&mut self, call: &CallRef) {
        let Some(view) = self.calls.remove(call) else {
            return;
        };
        for tip in view.tips() {
            self.tips.remove(&tip);
        }
        let Some(desk) = self.desks.get_mut(&view.rep) else {
            return;
        };
        desk.calls.retain(|other| other != call);
        if desk.current.as_ref() == Some(call) {
            let started_at = |call: &&CallRef| self.calls.get(call).map(|view| view.started_at);
            desk.current = desk.calls.iter().max_by_key(started_at).cloned();
        }
    }
}

impl Desk {
    /// Hands a frame to every screen; cuts off those that are too slow, and counts them.
    fn show(&mut self, frame: &Arc<Frame>) -> usize {
        use mpsc::error::TrySendError;
        let mut cut_off = 0;
        self.screens
            .retain(|screen| match screen.try_send(Arc::clone(frame)) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => {
                    cut_off += 1;
                    false
                }
            });
        cut_off
    }
}

impl CallRef {
    fn of(head: &Head) -> Self {
        Self {
            tenant: head.tenant.as_str().into(),
            call_id: head.call_id.as_str().into(),
        }
    }
}

/// Which topic an event is of, and its story.
fn split(event: AnyEvent) -> Option<(Source, Body<Story>)> {
    fn body<T>(body: Body<T>, story: impl FnOnce(T) -> Story) -> Body<Story> {
        match body {
            Body::Started(started) => Body::Started(started),
            Body::Item(item) => Body::Item(story(item)),
            Body::Ended(ended) => Body::Ended(ended),
        }
    }
    match event {
        AnyEvent::Transcript(event) => Some((
            Source::Transcript,
            body(event.body, |item| {
                Story::Utterance(event.head.event_id, item)
            }),
        )),
        AnyEvent::Insight(event) => Some((Source::Insights, body(event.body, Story::Insight))),
        AnyEvent::Tip(event) => Some((
            Source::Tips,
            body(event.body, |item| Story::Tip(event.head.event_id, item)),
        )),
        AnyEvent::Feedback(event) => Some((Source::Feedback, body(event.body, Story::Feedback))),
        AnyEvent::Audio(_)
        | AnyEvent::NoteRequest(_)
        | AnyEvent::ParkedNote(_)
        | AnyEvent::Note(_) => None,
    }
}
