//! What all topics of a call share: how it starts, how it ends, and the words for both.

use serde::{Deserialize, Serialize};

use crate::Sealed;

/// Defines an enum whose variants are written as lower-case symbols, in Avro, JSON and text alike.
macro_rules! symbols {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $symbol:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $symbol)] $variant),+
        }

        impl $name {
            /// All symbols, in schema order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The symbol as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $symbol),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($symbol => Ok(Self::$variant),)+
                    _ => Err(format!(
                        "unknown {} {text:?}: expected one of {}",
                        stringify!($name),
                        [$($symbol),+].join(", ")
                    )),
                }
            }
        }
    };
}
pub(crate) use symbols;

symbols! {
    /// Who speaks.
    Speaker {
        /// The sales rep.
        Rep = "rep",
        /// The customer.
        Customer = "customer",
    }
}

symbols! {
    /// A language the product coaches in.
    Language {
        /// English.
        En = "en",
        /// Spanish.
        Es = "es",
        /// French.
        Fr = "fr",
        /// Mandarin.
        Zh = "zh",
    }
}

symbols! {
    /// The customer's resistance, by kind.
    ObjectionKind {
        /// Cost, budget, discount, value for money.
        Price = "price",
        /// Not now, later, not a priority, too busy.
        Timing = "timing",
        /// Someone else decides, signs or must be asked.
        Authority = "authority",
        /// Happy as it is, sees no use.
        Need = "need",
        /// Another supplier in use or considered, renewal, in-house tool.
        Competitor = "competitor",
        /// Unknown company, security, privacy, proof, guarantees, burned before.
        Trust = "trust",
        /// Missing feature, integration, language, scale, effort to adopt.
        Fit = "fit",
        /// Brush-off: send me something, I'll think about it.
        Stall = "stall",
    }
}

symbols! {
    /// Why a call ended.
    EndReason {
        /// Someone hung up.
        Hangup = "hangup",
        /// Nothing came for too long.
        Timeout = "timeout",
        /// The producer gave up.
        Aborted = "aborted",
    }
}

/// The call began: first event of every call on every topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Id of the rep, as the tenant's own systems know them.
    pub rep: String,
    /// Sealed: the customer's name or number (UTF-8).
    pub customer: Option<Sealed>,
    /// `auto` or a [`Language`]: what the producer was told.
    pub language: String,
    /// How the call came in: `wav`, `transcript`, or a telephony adapter's name.
    pub source: String,
    /// Who speaks on each audio channel, in channel order.
    pub channels: Vec<Speaker>,
    /// When the call began, in milliseconds since 1970.
    pub started_at: i64,
}

/// The call is over: last event of every call on every topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// Length of the call in milliseconds.
    pub duration_ms: i64,
    /// Number of utterances, from transcription on; none where that was started again meanwhile.
    pub utterances: Option<i32>,
    /// Milliseconds of audio that transcription has read, from transcription on.
    pub transcribed_ms: Option<i64>,
    /// How the conversation went, from insights on.
    pub conversation: Option<Conversation>,
    /// What became of each objection, from coaching on.
    pub objections: Option<Vec<ObjectionOutcome>>,
    /// Whether a next step was agreed, from insights on.
    pub next_step: Option<bool>,
}

/// Running figures of a call's delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The rep's share of all speech so far, 0 to 1.
    pub talk_ratio: f32,
    /// Longest stretch of the rep without a word of the customer, in milliseconds.
    pub longest_monologue_ms: i64,
    /// The rep's current stretch without a word of the customer, in milliseconds.
    pub monologue_ms: i64,
    /// How often the rep began while the customer was speaking.
    pub interruptions: i32,
    /// The rep's speaking rate.
    pub rep_words_per_minute: f32,
    /// Slope of the customer's sentiment, -1 (falling) to 1 (rising).
    pub sentiment_trend: f32,
}

/// One kind of objection over the whole call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectionOutcome {
    /// Kind of objection.
    pub kind: ObjectionKind,
    /// How often it was raised.
    pub raised: i32,
    /// Whether the rep answered it and the customer let it rest.
    pub answered: bool,
}

/// A language on the wire is text, not an Avro enum: more languages will come, and a reader that
/// does not know one must still be able to read the event.
pub(crate) mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Language;

    pub fn serialize<S: Serializer>(language: &Language, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(language.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Language, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
