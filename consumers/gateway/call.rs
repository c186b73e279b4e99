//! One call as a rep's screen shows it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use schemas::{Action, Ended, EventId};

use super::frame::{Frame, Story};
use super::position::{Position, Source};

/// A rep of a tenant: the only one who sees their calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepId {
    /// The rep's organisation.
    pub tenant: Arc<str>,
    /// The rep.
    pub rep: Arc<str>,
}

impl RepId {
    /// The rep `rep` of `tenant`.
    pub fn new(tenant: &str, rep: &str) -> Self {
        Self {
            tenant: tenant.into(),
            rep: rep.into(),
        }
    }
}

/// One call, in the order its events came in.
#[derive(Debug)]
pub struct CallView {
    /// The call.
    pub call_id: Arc<str>,
    /// Whose it is.
    pub rep: RepId,
    /// When it began, in milliseconds since 1970.
    pub started_at: i64,
    /// When the latest of its records was written, in milliseconds since 1970.
    pub heard_at: i64,
    frames: VecDeque<Arc<Frame>>,
    ended: Option<Ended>,
    feedback: HashSet<(EventId, Action)>,
}

impl CallView {
    /// A call of which nothing is known but its start.
    pub fn new(call_id: &Arc<str>, rep: RepId, started_at: i64, heard_at: i64) -> Self {
        Self {
            call_id: Arc::clone(call_id),
            rep,
            started_at,
            heard_at,
            frames: VecDeque::new(),
            ended: None,
            feedback: HashSet::new(),
        }
    }

    /// Adds what happened; gives the frame for the screens, and what was dropped to keep at most
    /// `limit` frames.
    pub fn add(
        &mut self,
        story: Story,
        source: Source,
        offset: i64,
        limit: usize,
    ) -> (Arc<Frame>, Option<Arc<Frame>>) {
        let story = match story {
            Story::Ended(ended) => Story::Ended(self.end(ended)),
            Story::Feedback(feedback) => {
                self.feedback.insert((feedback.tip_id, feedback.action));
                Story::Feedback(feedback)
            }
            story => story,
        };
        let frame = Arc::new(Frame {
            call_id: Arc::clone(&self.call_id),
            source,
            offset,
            story,
        });
        // The first frame tells how the call started: every screen needs it.
        let dropped = if self.frames.len() >= limit {
            self.frames.remove(1)
        } else {
            None
        };
        self.frames.push_back(Arc::clone(&frame));
        (frame, dropped)
    }

    /// What a screen standing at `position` has not seen. A tip that has expired is left out
    /// unless the rep saw it in time.
    pub fn since(&self, position: Option<&Position>, now: i64) -> Vec<Arc<Frame>> {
        let seen = |frame: &Frame| position.is_some_and(|p| p.covers(frame.source, frame.offset));
        let missed = |frame: &Frame| match &frame.story {
            Story::Tip(id, tip) => tip.expires_at <= now && !self.was_shown(*id),
            _ => false,
        };
        self.frames
            .iter()
            .filter(|frame| !seen(frame) && !missed(frame))
            .cloned()
            .collect()
    }

    /// Whether the call is over on any topic.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether the rep did `action` with the tip.
    pub fn recorded(&self, tip: EventId, action: Action) -> bool {
        self.feedback.contains(&(tip, action))
    }

    /// The call's tips.
    pub fn tips(&self) -> impl Iterator<Item = EventId> {
        self.frames.iter().filter_map(|frame| match &frame.story {
            Story::Tip(id, _) => Some(*id),
            _ => None,
        })
    }

    fn was_shown(&self, tip: EventId) -> bool {
        [Action::Shown, Action::Used, Action::Dismissed]
            .into_iter()
            .any(|action| self.recorded(tip, action))
    }

    /// Each topic's end knows more than the one before; together they are the summary.
    fn end(&mut self, ended: Ended) -> Ended {
        let known = self.ended.take();
        let ended = match known {
            None => ended,
            Some(known) => Ended {
                reason: ended.reason,
                duration_ms: ended.duration_ms.max(known.duration_ms),
                utterances: ended.utterances.or(known.utterances),
                transcribed_ms: ended.transcribed_ms.or(known.transcribed_ms),
                conversation: ended.conversation.or(known.conversation),
                objections: ended.objections.or(known.objections),
                next_step: ended.next_step.or(known.next_step),
            },
        };
        self.ended = Some(ended.clone());
        ended
    }
}
