//! What coaching remembers of a call: which objections are open, which tips were given, and how
//! much the rep has been shown lately.

use std::collections::{BTreeMap, HashMap, VecDeque};

use schemas::{Insight, ObjectionKind, ObjectionOutcome, Speaker};

use super::playbook::{Answer, Attention, Rule};

const MINUTE_MS: i64 = 60_000;

/// Sentiment below which a customer has not let an objection rest.
const DISPLEASED: f32 = -0.5;

/// Why the rep is told nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// No objection and nothing to remark on.
    NothingToSay,
    /// The playbook has no rule for it.
    NoRule,
    /// The rep has seen as many tips lately as anyone can take in.
    Budget,
    /// A tip for this objection is on the screen.
    OnScreen,
    /// The rep has answered this objection already.
    Answered,
    /// Every text of the rule was shown in this call.
    SaidAlready,
}

impl Quiet {
    /// Metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingToSay => "nothing_to_say",
            Self::NoRule => "no_rule",
            Self::Budget => "attention_budget",
            Self::OnScreen => "on_screen",
            Self::Answered => "answered",
            Self::SaidAlready => "said_already",
        }
    }
}

/// What became of one kind of objection so far.
#[derive(Clone, Copy, Debug, Default)]
struct Raised {
    times: i32,
    /// Words the rep has said since it was raised last.
    words: i32,
    answered: bool,
    /// Until when, in call time, a tip for it is on the screen.
    on_screen_until: i64,
}

/// What coaching remembers of one call.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    objections: BTreeMap<ObjectionKind, Raised>,
    /// Texts used, by rule.
    used: HashMap<String, usize>,
    /// When, in call time, tips were given in the last minute.
    recent: VecDeque<i64>,
    /// Until when, in call time, any tip is on the screen.
    on_screen_until: i64,
    next_step: bool,
}

impl Memory {
    /// Takes in who said what; before anything is chosen.
    pub(super) fn listen(&mut self, insight: &Insight, answer: Answer) {
        self.next_step |= insight.next_step;
        while self
            .recent
            .front()
            .is_some_and(|at| insight.end_ms - at >= MINUTE_MS)
        {
            self.recent.pop_front();
        }
        match insight.speaker {
            Speaker::Rep => {
                for raised in self.objections.values_mut() {
                    raised.words = raised.words.saturating_add(insight.words);
                }
            }
            Speaker::Customer => self.hear_customer(insight, answer),
        }
    }

    fn hear_customer(&mut self, insight: &Insight, answer: Answer) {
        let raised_now = |kind| insight.objections.iter().any(|found| found.kind == kind);
        for (kind, raised) in &mut self.objections {
            let at_rest = !raised_now(*kind) && insight.sentiment.polarity > DISPLEASED;
            if at_rest && raised.words >= answer.words {
                raised.answered = true;
            }
        }
        for objection in &insight.objections {
            let raised = self.objections.entry(objection.kind).or_default();
            raised.times += 1;
            raised.words = 0;
        }
    }

    /// Whether a tip for this objection may be given at `at` (call time, ms), and with which text.
    pub(super) fn may_answer(
        &self,
        kind: ObjectionKind,
        rule: &Rule,
        at: i64,
        attention: Attention,
    ) -> Result<usize, Quiet> {
        let raised = self.objections.get(&kind).copied().unwrap_or_default();
        if raised.answered {
            return Err(Quiet::Answered);
        }
        if at < raised.on_screen_until {
            return Err(Quiet::OnScreen);
        }
        if self.recent.len() >= attention.per_minute {
            return Err(Quiet::Budget);
        }
        self.unused(rule)
    }

    /// Whether a tip on delivery may be given at `at` (call time, ms), and with which text.
    pub(super) fn may_remark(
        &self,
        rule: &Rule,
        at: i64,
        attention: Attention,
    ) -> Result<usize, Quiet> {
        if at < self.on_screen_until {
            return Err(Quiet::OnScreen);
        }
        if self.recent.len() + attention.kept_for_objections >= attention.per_minute {
            return Err(Quiet::Budget);
        }
        self.unused(rule)
    }

    fn unused(&self, rule: &Rule) -> Result<usize, Quiet> {
        let variant = self.used.get(&rule.id).copied().unwrap_or(0);
        if variant < rule.variants.len() {
            Ok(variant)
        } else {
            Err(Quiet::SaidAlready)
        }
    }

    /// Notes that a tip of this rule was given at `at` and is of use for `lifetime` (both ms).
    pub(super) fn told(&mut self, rule: &Rule, at: i64, lifetime: i64) {
        let until = at.saturating_add(lifetime);
        *self.used.entry(rule.id.clone()).or_default() += 1;
        self.recent.push_back(at);
        self.on_screen_until = self.on_screen_until.max(until);
        if let Some(kind) = rule.when.objection {
            self.objections.entry(kind.0).or_default().on_screen_until = until;
        }
    }

    /// Whether a next step has been agreed.
    pub(super) fn next_step(&self) -> bool {
        self.next_step
    }

    /// What became of each objection.
    pub(super) fn outcomes(&self) -> Vec<ObjectionOutcome> {
        self.objections
            .iter()
            .map(|(kind, raised)| ObjectionOutcome {
                kind: *kind,
                raised: raised.times,
                answered: raised.answered,
            })
            .collect()
    }
}
