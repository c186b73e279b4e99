//! The playbook: the rules that turn insights into tips, in YAML.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemas::{Conversation, Language, ObjectionKind};
use serde::{Deserialize, Deserializer, de};

/// The playbook that ships.
const DEFAULT: &str = include_str!("default.yaml");

/// Why a playbook cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlaybookError {
    /// The file does not open.
    #[error("playbook {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML of a playbook's shape.
    #[error("playbook {name}: {source}")]
    Shape {
        /// File or built-in name.
        name: String,
        /// Line, column and what was expected.
        source: serde_yaml_ng::Error,
    },
    /// It contradicts itself or leaves something out; every finding at once.
    #[error("playbook {name}:\n  - {}", findings.join("\n  - "))]
    Content {
        /// File or built-in name.
        name: String,
        /// What is wrong, rule by rule.
        findings: Vec<String>,
    },
}

/// The rules that turn insights into tips.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Its name, on every tip.
    pub name: String,
    /// Its version, on every tip.
    pub version: String,
    /// Languages that every text must have.
    pub languages: Vec<Code>,
    /// How much a rep can take in.
    #[serde(default)]
    pub attention: Attention,
    /// When an objection counts as answered.
    #[serde(default)]
    pub answer: Answer,
    /// The rules; the first that fits an objection wins.
    pub rules: Vec<Rule>,
}

/// How much a rep can take in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// At most so many tips in any minute of the call.
    pub per_minute: usize,
    /// Of these, tips on delivery leave so many free.
    pub kept_for_objections: usize,
}

impl Default for Attention {
    fn default() -> Self {
        Self {
            per_minute: 4,
            kept_for_objections: 1,
        }
    }
}

/// When an objection counts as answered.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The rep has answered after so many words, once the customer lets it rest.
    pub words: i32,
}

impl Default for Answer {
    fn default() -> Self {
        Self { words: 6 }
    }
}

/// One rule: when, and what to say.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its id, on every tip.
    pub id: String,
    /// When it applies.
    pub when: When,
    /// 1 (highest) to 5.
    pub priority: i32,
    /// How long after the last word the tip is of use.
    #[serde(deserialize_with = "duration")]
    pub expires_after: Duration,
    /// Texts, each used once a call, in this order.
    pub variants: Vec<BTreeMap<Code, Text>>,
}

/// When a rule applies: exactly one condition, and for delivery how far the call must be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The customer raises an objection of this kind.
    pub objection: Option<Kind>,
    /// With at least this probability, 0 to 1; without it, the model's own threshold.
    pub score: Option<f32>,
    /// The rep has talked for so long without a word of the customer.
    #[serde(deserialize_with = "optional_duration")]
    pub monologue: Option<Duration>,
    /// The rep's share of all speech is above this, 0 to 1.
    pub talk_ratio: Option<f32>,
    /// The customer's sentiment falls at least so steeply, -1 to 0.
    pub sentiment_trend: Option<f32>,
    /// So much of the call is over and no next step is agreed.
    #[serde(deserialize_with = "optional_duration")]
    pub no_next_step: Option<Duration>,
    /// Not before so much of the call is over.
    #[serde(deserialize_with = "optional_duration")]
    pub after: Option<Duration>,
}

/// What the rep reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// A few words to see at a glance.
    pub title: String,
    /// One line to say.
    pub say: String,
    /// One question to ask.
    pub ask: String,
}

/// Longest texts a rep can read at a glance, in characters.
const LONGEST: [(&str, usize); 3] = [("title", 40), ("say", 120), ("ask", 120)];

impl Playbook {
    /// The playbook in a file, or the one that ships.
    ///
    /// # Errors
    /// When the file cannot be read or is no valid playbook; content errors all at once.
    pub fn load(path: Option<&Path>) -> Result<Self, PlaybookError> {
        let Some(path) = path else {
            return Self::parse("default", DEFAULT);
        };
        let text = std::fs::read_to_string(path).map_err(|source| PlaybookError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, PlaybookError> {
        let playbook: Self =
            serde_yaml_ng::from_str(text).map_err(|source| PlaybookError::Shape {
                name: name.to_owned(),
                source,
            })?;
        let findings = playbook.findings();
        if findings.is_empty() {
            return Ok(playbook);
        }
        Err(PlaybookError::Content {
            name: name.to_owned(),
            findings,
        })
    }

    /// The text of a rule's variant; every declared language has one.
    pub fn text(
        &self,
        rule: &Rule,
        variant: usize,
        language: Language,
    ) -> Option<(Language, Text)> {
        let texts = rule.variants.get(variant)?;
        let first = self.languages.first().map_or(Language::En, |code| code.0);
        [language, first]
            .into_iter()
            .find_map(|language| Some((language, texts.get(&Code(language))?.clone())))
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.languages.is_empty() {
            findings.push("languages: name at least one of en, es, fr, zh".to_owned());
        }
        if self.attention.per_minute == 0 {
            findings.push("attention.per_minute: must be at least 1".to_owned());
        }
        let mut ids = HashSet::new();
        for rule in &self.rules {
            if !ids.insert(&rule.id) {
                findings.push(format!("rule {}: the id is used twice", rule.id));
            }
            findings.extend(
                rule.findings(&self.languages)
                    .map(|what| format!("rule {}: {what}", rule.id)),
            );
        }
        findings
    }
}

impl Rule {
    fn findings(&self, languages: &[Code]) -> impl Iterator<Item = String> {
        let mut findings = self.when.findings();
        if !(1..=5).contains(&self.priority) {
            findings.push(format!("priority {} is not between 1 and 5", self.priority));
        }
        if self.expires_after.is_zero() {
            findings.push("expires_after must be longer than 0s".to_owned());
        }
        if self.variants.is_empty() {
            findings.push("variants: write at least one".to_owned());
        }
        for (index, texts) in self.variants.iter().enumerate() {
            for language in languages {
                match texts.get(language) {
                    None => findings.push(format!(
                        "variant {} has no text in {}",
                        index + 1,
                        language.0
                    )),
                    Some(text) => findings.extend(
                        text.findings()
                            .map(|what| format!("variant {}, {}: {what}", index + 1, language.0)),
                    ),
                }
            }
        }
        findings.into_iter()
    }
}

impl When {
    fn findings(&self) -> Vec<String> {
        let conditions = [
            self.objection.is_some(),
            self.monologue.is_some(),
            self.talk_ratio.is_some(),
            self.sentiment_trend.is_some(),
            self.no_next_step.is_some(),
        ];
        let mut findings = Vec::new();
        if conditions.iter().filter(|set| **set).count() != 1 {
            findings.push(
                "when: set exactly one of objection, monologue, talk_ratio, sentiment_trend, \
                 no_next_step"
                    .to_owned(),
            );
        }
        let mut range = |name: &str, value: Option<f32>, low: f32, high: f32| {
            if value.is_some_and(|value| !(low..=high).contains(&value)) {
                findings.push(format!("when.{name} must be between {low} and {high}"));
            }
        };
        range("score", self.score, 0.0, 1.0);
        range("talk_ratio", self.talk_ratio, 0.0, 1.0);
        range("sentiment_trend", self.sentiment_trend, -1.0, 0.0);
        if self.score.is_some() && self.objection.is_none() {
            findings.push("when.score goes with when.objection only".to_owned());
        }
        findings
    }

    /// Whether the conversation, `at` into the call, is as this rule on delivery says.
    pub fn delivery(&self, at: Duration, conversation: &Conversation, next_step: bool) -> bool {
        if self.after.is_some_and(|after| at < after) {
            return false;
        }
        let monologue = Duration::from_millis(conversation.monologue_ms.max(0).unsigned_abs());
        self.monologue.is_some_and(|longest| monologue >= longest)
            || self
                .talk_ratio
                .is_some_and(|most| conversation.talk_ratio > most)
            || self
                .sentiment_trend
                .is_some_and(|least| conversation.sentiment_trend <= least)
            || self
                .no_next_step
                .is_some_and(|latest| !next_step && at >= latest)
    }
}

impl Text {
    fn findings(&self) -> impl Iterator<Item = String> + '_ {
        let texts = [&self.title, &self.say, &self.ask];
        LONGEST
            .into_iter()
            .zip(texts)
            .filter_map(|((name, longest), text)| {
                let length = text.chars().count();
                if text.trim().is_empty() {
                    return Some(format!("{name} is empty"));
                }
                (length > longest).then(|| {
                    format!(
                        "{name} has {length} characters: a rep reads at most {longest} at a glance"
                    )
                })
            })
    }
}

/// A language as a key of YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub Language);

/// An objection kind as a value of YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub ObjectionKind);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(Self)
            .map_err(de::Error::custom)
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("{text:?} is no duration like 20s: {error}")))
}

fn optional_duration<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    duration(d).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_playbook_that_ships_covers_every_kind_in_every_language() {
        let playbook = Playbook::load(None).unwrap();
        for kind in ObjectionKind::ALL {
            let rule = playbook
                .rules
                .iter()
                .find(|rule| rule.when.objection == Some(Kind(*kind)))
                .unwrap_or_else(|| panic!("no rule for {kind}"));
            for language in Language::ALL {
                let (got, _) = playbook.text(rule, 0, *language).unwrap();
                assert_eq!(got, *language);
            }
        }
        let has = |test: fn(&When) -> bool| playbook.rules.iter().any(|rule| test(&rule.when));
        assert!(has(|when| when.monologue.is_some()));
        assert!(has(|when| when.talk_ratio.is_some()));
        assert!(has(|when| when.sentiment_trend.is_some()));
        assert!(has(|when| when.no_next_step.is_some()));
    }

    #[test]
    fn every_finding_is_reported_at_once_and_names_its_rule() {
        let text = r#"
name: mine
version: "1"
languages: [en, fr]
attention: { per_minute: 0, kept_for_objections: 0 }
rules:
  - id: a
    when: { objection: price, talk_ratio: 0.5 }
    priority: 9
    expires_after: 20s
    variants: [{ en: { title: "", say: s, ask: a } }]
  - id: a
    when: { talk_ratio: 1.5 }
    priority: 1
    expires_after: 20s
    variants: []
"#;
        let error = Playbook::parse("mine.yaml", text).unwrap_err().to_string();
        for finding in [
            "playbook mine.yaml",
            "per_minute",
            "rule a: when: set exactly one",
            "priority 9",
            "title is empty",
            "variant 1 has no text in fr",
            "used twice",
            "talk_ratio must be between 0 and 1",
            "write at least one",
        ] {
            assert!(error.contains(finding), "{finding:?} missing in:\n{error}");
        }
    }

    #[test]
    fn a_misspelt_key_kind_or_duration_is_named_with_its_place() {
        for (from, to, expected) in [
            ("priority: 1", "prioritie: 1", "prioritie"),
            ("objection: price", "objection: prise", "prise"),
            ("expires_after: 20s", "expires_after: soon", "soon"),
        ] {
            let error = Playbook::parse("p", &DEFAULT.replacen(from, to, 1)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("line"), "{text}");
        }
    }
}
