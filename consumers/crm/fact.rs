//! What is kept of a call's events, to write its note from.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::{
    Action, AnyEvent, Body, Ended, Event, Head, Insight, Item, ObjectionKind, Sealed, Speaker, Tip,
    Utterance,
};
use serde::{Deserialize, Serialize};

/// What one event told.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The event's id.
    pub event_id: String,
    /// Its event time, in milliseconds since 1970.
    pub time: i64,
    /// What it told.
    pub fact: Fact,
}

/// What an event told that a note may say. Sealed words stay sealed (base64).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The call began.
    Started {
        /// Id of the rep.
        rep: String,
        /// Sealed: the customer's name or number.
        customer: Option<String>,
        /// How the call came in.
        source: String,
        /// When it began, in milliseconds since 1970.
        started_at: i64,
    },
    /// The customer said something.
    Said {
        /// Sealed: the words.
        text: String,
    },
    /// What was found in an utterance.
    Found {
        /// Event id of the utterance.
        utterance: String,
        /// Whether the customer spoke.
        customer: bool,
        /// Where in the call, in milliseconds.
        at_ms: i64,
        /// -1 to 1.
        polarity: f32,
        /// Objections raised.
        objections: Vec<ObjectionKind>,
        /// Whether the customer moved towards buying.
        interest: bool,
    },
    /// The rep got a tip.
    Told {
        /// Its title.
        title: String,
    },
    /// The rep did something with a tip.
    Did {
        /// Event id of the tip.
        tip: String,
        /// What.
        action: Action,
    },
    /// The call is over, says a topic.
    Over {
        /// The topic.
        topic: String,
        /// How it ended.
        ended: Ended,
    },
    /// Someone corrected the outcome.
    Outcome {
        /// It.
        outcome: String,
    },
}

impl Fact {
    /// A short name, by which the database finds facts of a kind.
    pub fn kind(&self) -> String {
        match self {
            Self::Started { .. } => "started".to_owned(),
            Self::Said { .. } => "said".to_owned(),
            Self::Found { .. } => "found".to_owned(),
            Self::Told { .. } => "told".to_owned(),
            Self::Did { .. } => "did".to_owned(),
            Self::Over { topic, .. } => format!("over {topic}"),
            Self::Outcome { .. } => "outcome".to_owned(),
        }
    }
}

/// The sealed bytes in a fact.
pub(super) fn sealed(text: &str) -> Option<Sealed> {
    STANDARD.decode(text).ok().map(Sealed)
}

/// What is kept of an event; `words`: whether the tenant wants the customer's own words.
pub(super) fn of(event: &AnyEvent, words: bool) -> Option<Kept> {
    let fact = match event {
        AnyEvent::Tip(event) => of_tips(event),
        AnyEvent::Insight(event) => of_insights(event),
        AnyEvent::Transcript(event) if words => of_transcript(event),
        AnyEvent::Feedback(event) => match &event.body {
            Body::Item(feedback) => Some(Fact::Did {
                tip: feedback.tip_id.to_string(),
                action: feedback.action,
            }),
            Body::Started(_) | Body::Ended(_) => None,
        },
        AnyEvent::Transcript(_)
        | AnyEvent::Audio(_)
        | AnyEvent::NoteRequest(_)
        | AnyEvent::ParkedNote(_)
        | AnyEvent::Note(_) => None,
    };
    fact.map(|fact| kept(event.head(), fact))
}

/// A fact under its event's id and time.
pub(super) fn kept(head: &Head, fact: Fact) -> Kept {
    Kept {
        event_id: head.event_id.to_string(),
        time: head.time,
        fact,
    }
}

fn over<T: Item>(ended: &Ended) -> Fact {
    Fact::Over {
        topic: T::TOPIC.name.to_owned(),
        ended: ended.clone(),
    }
}

fn of_tips(event: &Event<Tip>) -> Option<Fact> {
    Some(match &event.body {
        Body::Started(started) => Fact::Started {
            rep: started.rep.clone(),
            customer: started.customer.as_ref().map(|c| STANDARD.encode(&c.0)),
            source: started.source.clone(),
            started_at: started.started_at,
        },
        Body::Item(tip) => Fact::Told {
            title: tip.title.clone(),
        },
        Body::Ended(ended) => over::<Tip>(ended),
    })
}

fn of_insights(event: &Event<Insight>) -> Option<Fact> {
    match &event.body {
        Body::Started(_) => None,
        Body::Item(insight) => Some(Fact::Found {
            utterance: insight.utterance_id.to_string(),
            customer: insight.speaker == Speaker::Customer,
            at_ms: insight.start_ms,
            polarity: insight.sentiment.polarity,
            objections: insight.objections.iter().map(|o| o.kind).collect(),
            interest: insight.interest,
        }),
        Body::Ended(ended) => Some(over::<Insight>(ended)),
    }
}

fn of_transcript(event: &Event<Utterance>) -> Option<Fact> {
    match &event.body {
        Body::Item(utterance) if utterance.speaker == Speaker::Customer => Some(Fact::Said {
            text: STANDARD.encode(&utterance.text.0),
        }),
        Body::Item(_) | Body::Started(_) => None,
        Body::Ended(ended) => Some(over::<Utterance>(ended)),
    }
}
