//! The note of a call: a function of what its events told, and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{Action, Crm, EndReason, Ended, Insight, Item, ObjectionKind, Tip, Utterance};

use super::fact::{Fact, Kept};
use super::tenant::Tenant;
use super::words::{self, Words};
use crate::masking;

/// What a value is, for whoever maps it to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line of text.
    Line,
    /// Lines of text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// A point in time.
    Time,
    /// A day, `2026-11-25`.
    Day,
}

/// Every value that a note has, and what it is.
pub const NAMES: &[(&str, Kind)] = &[
    ("title", Kind::Line),
    ("body", Kind::Text),
    ("body_html", Kind::Text),
    ("call_id", Kind::Line),
    ("started_at", Kind::Time),
    ("day", Kind::Day),
    ("duration_ms", Kind::Number),
    ("duration_s", Kind::Number),
    ("rep", Kind::Line),
    ("owner", Kind::Line),
    ("customer", Kind::Line),
    ("outcome", Kind::Line),
    ("objections", Kind::Line),
    ("objections_raised", Kind::Number),
    ("objections_answered", Kind::Number),
    ("sentiment", Kind::Line),
    ("sentiment_trend", Kind::Number),
    ("talk_ratio", Kind::Number),
    ("next_step", Kind::Flag),
    ("tips_shown", Kind::Number),
    ("tips_used", Kind::Number),
    ("link", Kind::Line),
    ("source", Kind::Line),
    ("hubspot_status", Kind::Line),
    ("hubspot_disposition", Kind::Line),
];

/// Characters of a note's text at most: what the smallest of the fields for it takes.
const LONGEST: usize = 32_000;
/// Polarity from which on a third of a call counts as positive, or below as negative.
const CLEARLY: f32 = 0.2;

/// HubSpot's own ids of call outcomes.
const CONNECTED: &str = "f240bbac-87c9-4f6e-bf70-924b57d47db7";
const NO_ANSWER: &str = "73a0d17f-1163-4015-bdd5-ec830791da20";

/// One value of a note.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// The note says nothing of it.
    Nothing,
    /// Text, masked.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// Milliseconds since 1970.
    Time(i64),
}

/// A call's note.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    values: BTreeMap<&'static str, Value>,
}

impl Note {
    /// A value by its name; none when it is not known at all.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}

/// What was sealed in a call's facts, opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The customer's name or number.
    pub customer: Option<String>,
    /// What the customer said, by the utterance's event id.
    pub said: BTreeMap<String, String>,
}

/// A call as its facts tell it, whatever order they came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Story {
    rep: String,
    /// Sealed, base64.
    pub(super) customer: Option<String>,
    source: String,
    started_at: i64,
    over: BTreeMap<String, Ended>,
    /// Sealed, base64, by the utterance's event id.
    pub(super) said: BTreeMap<String, String>,
    moments: Vec<Moment>,
    tips: Vec<(String, String)>,
    actions: BTreeMap<String, BTreeSet<Action>>,
    outcome: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Moment {
    utterance: String,
    at_ms: i64,
    polarity: f32,
    objections: Vec<ObjectionKind>,
    interest: bool,
}

impl Story {
    /// The call that these facts tell of.
    pub fn of(mut facts: Vec<Kept>) -> Self {
        facts.sort_by(|a, b| (a.time, &a.event_id).cmp(&(b.time, &b.event_id)));
        let mut story = Self::default();
        for kept in facts {
            story.take(kept.event_id, kept.fact);
        }
        story
    }

    fn take(&mut self, id: String, fact: Fact) {
        match fact {
            Fact::Started {
                rep,
                customer,
                source,
                started_at,
            } => {
                self.rep = rep;
                self.customer = customer;
                self.source = source;
                self.started_at = started_at;
            }
            Fact::Said { text } => drop(self.said.insert(id, text)),
            Fact::Found {
                customer: false, ..
            } => {}
            Fact::Found {
                utterance,
                at_ms,
                polarity,
                objections,
                interest,
                ..
            } => self.moments.push(Moment {
                utterance,
                at_ms,
                polarity,
                objections,
                interest,
            }),
            Fact::Told { title } => self.tips.push((id, title)),
            Fact::Did { tip, action } => {
                self.actions.entry(tip).or_default().insert(action);
            }
            Fact::Over { topic, ended } => drop(self.over.insert(topic, ended)),
            Fact::Outcome { outcome } => self.outcome = Some(outcome),
        }
    }

    /// Whether everything has been told: each topic that the note is written from has ended.
    pub fn is_complete(&self, words: bool) -> bool {
        topics(words).all(|topic| self.over.contains_key(topic))
    }

    /// When the call began, in milliseconds since 1970.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    fn ended(&self) -> Option<&Ended> {
        self.over.get(Tip::TOPIC.name)
    }

    /// What came of the call: as someone corrected it, else by what was found in it.
    fn outcome(&self) -> String {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let ended = self.ended();
        let derived = if self.moments.is_empty() {
            "no conversation"
        } else if ended.and_then(|ended| ended.next_step) == Some(true) {
            "next step agreed"
        } else if self.objections().any(|(_, _, answered)| !answered) {
            "objections open"
        } else if self.moments.iter().any(|moment| moment.interest) {
            "interested"
        } else {
            "talked"
        };
        derived.to_owned()
    }

    /// Kinds of objection raised: how often, and whether the last was answered.
    fn objections(&self) -> impl Iterator<Item = (ObjectionKind, i64, bool)> {
        let outcomes = self.ended().and_then(|ended| ended.objections.as_ref());
        let outcomes = outcomes.into_iter().flatten();
        outcomes.map(|outcome| (outcome.kind, outcome.raised.into(), outcome.answered))
    }

    /// The customer's mood in the thirds of the call in which the customer spoke.
    fn sentiment(&self) -> Vec<f32> {
        let length = self.ended().map_or(0, |ended| ended.duration_ms).max(1);
        let mut thirds = [(0.0, 0.0); 3];
        for moment in &self.moments {
            let third = (moment.at_ms.max(0) * 3 / length).min(2);
            let (sum, count) = &mut thirds[usize::try_from(third).unwrap_or(2)];
            *sum += moment.polarity;
            *count += 1.0;
        }
        let spoken = thirds.into_iter().filter(|(_, count)| *count > 0.0);
        spoken.map(|(sum, count)| sum / count).collect()
    }

    fn shown(&self, tip: &str) -> Option<&BTreeSet<Action>> {
        self.actions.get(tip)
    }

    fn used(&self, tip: &str) -> bool {
        let actions = self.shown(tip);
        actions.is_some_and(|actions| actions.contains(&Action::Used))
    }
}

/// The topics whose end a note waits for.
pub fn topics(words: bool) -> impl Iterator<Item = &'static str> {
    let transcript = words.then_some(Utterance::TOPIC.name);
    [Tip::TOPIC.name, Insight::TOPIC.name]
        .into_iter()
        .chain(transcript)
}

/// The note of a call for one of the tenant's CRMs. All text that people said or typed is masked.
pub fn note(tenant: &Tenant, crm: Crm, call_id: &str, story: &Story, opened: &Opened) -> Note {
    let draft = Draft {
        tenant,
        call_id,
        story,
        opened,
        words: Words::of(tenant.language),
    };
    let body = draft.body();
    let html: Vec<String> = body.iter().map(|line| escape(line)).collect();
    let ended = story.ended();
    let conversation = ended.and_then(|ended| ended.conversation);
    let duration = ended.map_or(0, |ended| ended.duration_ms);
    let (raised, answered) = story.objections().fold((0, 0), |(all, done), objection| {
        (all + 1, done + i64::from(objection.2))
    });
    let percent = |share: f32| Value::Whole((share * 100.0).round() as i64);
    let aborted = ended.is_some_and(|ended| ended.reason == EndReason::Aborted);
    let silent = story.moments.is_empty();
    let status = match (aborted, silent) {
        (true, _) => "CANCELED",
        (false, true) => "NO_ANSWER",
        (false, false) => "COMPLETED",
    };
    let tips = story.tips.iter();
    let mut values = BTreeMap::from([
        ("title", Value::Text(draft.title())),
        ("body", text(&body.join("\n"))),
        ("body_html", text(&html.join("<br>"))),
        ("call_id", text(call_id)),
        ("started_at", Value::Time(story.started_at)),
        ("day", text(&words::iso(story.started_at)[..10])),
        ("duration_ms", Value::Whole(duration)),
        ("duration_s", Value::Whole(duration / 1_000)),
        ("rep", text(&draft.mask(&story.rep))),
        (
            "customer",
            draft.customer().map_or(Value::Nothing, Value::Text),
        ),
        ("outcome", text(&draft.mask(&story.outcome()))),
        ("objections", text(&draft.kinds())),
        ("objections_raised", Value::Whole(raised)),
        ("objections_answered", Value::Whole(answered)),
        ("sentiment", text(&draft.sentiment())),
        (
            "next_step",
            Value::Flag(ended.and_then(|e| e.next_step) == Some(true)),
        ),
        (
            "tips_shown",
            count(tips.clone().filter(|(id, _)| story.shown(id).is_some())),
        ),
        ("tips_used", count(tips.filter(|(id, _)| story.used(id)))),
        ("link", draft.link().map_or(Value::Nothing, Value::Text)),
        ("source", text(&story.source)),
        ("hubspot_status", text(status)),
        (
            "hubspot_disposition",
            text(if silent { NO_ANSWER } else { CONNECTED }),
        ),
        (
            "talk_ratio",
            conversation.map_or(Value::Nothing, |c| percent(c.talk_ratio)),
        ),
        (
            "sentiment_trend",
            conversation.map_or(Value::Nothing, |c| {
                Value::Number(rounded(c.sentiment_trend))
            }),
        ),
    ]);
    let rep = tenant.reps.get(&story.rep);
    let owner = rep.and_then(|rep| match crm {
        Crm::Hubspot => rep.hubspot.as_deref(),
        Crm::Salesforce => rep.salesforce.as_deref(),
    });
    if let Some(owner) = owner {
        values.insert("owner", text(owner));
    }
    Note { values }
}

/// What a note is being written from.
struct Draft<'a> {
    tenant: &'a Tenant,
    call_id: &'a str,
    story: &'a Story,
    opened: &'a Opened,
    words: &'static Words,
}

impl Draft<'_> {
    fn mask(&self, text: &str) -> String {
        masking::mask(text, self.tenant.language).into_owned()
    }

    fn customer(&self) -> Option<String> {
        let customer = self.opened.customer.as_ref();
        customer
            .filter(|_| self.tenant.personal_content)
            .map(|customer| self.mask(customer))
    }

    fn title(&self) -> String {
        match self.customer() {
            Some(customer) => format!("{}: {customer}", self.words.call),
            None => self.words.call.to_owned(),
        }
    }

    fn link(&self) -> Option<String> {
        let link = self.tenant.link.as_ref()?;
        Some(link.replace("{call}", self.call_id))
    }

    fn kinds(&self) -> String {
        let kinds = self.story.objections();
        let kinds: Vec<_> = kinds.map(|(kind, ..)| self.words.kind(kind)).collect();
        kinds.join(", ")
    }

    fn sentiment(&self) -> String {
        let moods = self.story.sentiment().into_iter().map(|mood| {
            if mood >= CLEARLY {
                self.words.positive
            } else if mood <= -CLEARLY {
                self.words.negative
            } else {
                self.words.neutral
            }
        });
        moods.collect::<Vec<_>>().join(" → ")
    }

    /// The note's lines, of at most [`LONGEST`] characters together.
    fn body(&self) -> Vec<String> {
        let (story, words) = (self.story, self.words);
        let ended = story.ended();
        let mut lines = vec![format!("{}: {}", words.rep, self.mask(&story.rep))];
        if let Some(customer) = self.customer() {
            lines.push(format!("{}: {customer}", words.customer));
        }
        lines.push(format!("{}: {}", words.began, words::iso(story.started_at)));
        let duration = ended.map_or(0, |ended| ended.duration_ms);
        lines.push(format!("{}: {}", words.lasted, words::length(duration)));
        lines.push(format!(
            "{}: {}",
            words.outcome,
            self.mask(&story.outcome())
        ));
        self.objections(&mut lines);
        let sentiment = self.sentiment();
        if !sentiment.is_empty() {
            lines.push(format!("{}: {sentiment}", words.sentiment));
        }
        if let Some(conversation) = ended.and_then(|ended| ended.conversation) {
            let percent = (conversation.talk_ratio * 100.0).round();
            lines.push(format!("{}: {percent} %", words.talk));
        }
        let agreed = ended.and_then(|ended| ended.next_step) == Some(true);
        let agreed = if agreed { words.yes } else { words.no };
        lines.push(format!("{}: {agreed}", words.next_step));
        self.tips(&mut lines);
        lines.extend(self.link());
        fitting(lines)
    }

    fn objections(&self, lines: &mut Vec<String>) {
        let (story, words) = (self.story, self.words);
        let mut any = false;
        for (kind, raised, answered) in story.objections() {
            if !any {
                lines.push(format!("{}:", words.objections));
                any = true;
            }
            let state = if answered { words.answered } else { words.open };
            let mut line = format!("- {} ({raised}×): {state}", words.kind(kind));
            if let Some(sentence) = self.sentence(kind) {
                line.push_str(&format!(" – “{sentence}”"));
            }
            lines.push(line);
        }
        if !any {
            lines.push(format!("{}: {}", words.objections, words.none));
        }
    }

    /// The sentence in which the customer first raised that objection, where the tenant wants it.
    fn sentence(&self, kind: ObjectionKind) -> Option<String> {
        if !self.tenant.personal_content {
            return None;
        }
        let mut moments = self.story.moments.iter();
        let first = moments.find(|moment| moment.objections.contains(&kind))?;
        let said = self.opened.said.get(&first.utterance)?;
        Some(self.mask(said.trim()))
    }

    fn tips(&self, lines: &mut Vec<String>) {
        let words = self.words;
        for (at, (id, title)) in self.story.tips.iter().enumerate() {
            if at == 0 {
                lines.push(format!("{}:", words.tips));
            }
            let state = match self.story.shown(id) {
                None => words.unseen,
                Some(actions) if actions.contains(&Action::Used) => words.used,
                Some(actions) if actions.contains(&Action::Dismissed) => words.dismissed,
                Some(_) => words.shown,
            };
            lines.push(format!("- {}: {state}", self.mask(title)));
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn count<T>(items: impl Iterator<Item = T>) -> Value {
    Value::Whole(i64::try_from(items.count()).unwrap_or(i64::MAX))
}

fn rounded(number: f32) -> f64 {
    (f64::from(number) * 1_000.0).round() / 1_000.0
}

/// As many lines as fit, escaped for HTML too.
fn fitting(lines: Vec<String>) -> Vec<String> {
    let mut left = LONGEST;
    let fits = lines.into_iter().take_while(|line| {
        let length = escape(line).chars().count() + "<br>".len();
        let enough = length <= left;
        left = left.saturating_sub(length);
        enough
    });
    fits.collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
