//! Which of a note's values go into which of a CRM's fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use serde_json::Map;

use super::note::{NAMES, Note, Value};

/// Fields of a CRM's object, and what is written into each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Mapping(BTreeMap<String, Source>);

/// Where a field's content comes from: a value of the note by its name, or after `=` a fixed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A value of the note.
    Value(&'static str),
    /// This text.
    Fixed(String),
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(fixed) = text.strip_prefix('=') {
            return Ok(Self::Fixed(fixed.to_owned()));
        }
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(name, _)| Self::Value(name)).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "a note has no value {text:?}: expected one of {}, or =text",
                names.join(", ")
            )
        })
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::try_from(text).map_err(de::Error::custom)
    }
}

/// How a CRM wants its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every value is a text; nothing is an empty one.
    HubSpot,
    /// JSON's own types; nothing is null.
    Salesforce,
}

impl Mapping {
    fn new(pairs: &[(&str, &'static str)]) -> Self {
        let pairs = pairs.iter().map(|(field, source)| {
            let source = match source.strip_prefix('=') {
                Some(fixed) => Source::Fixed(fixed.to_owned()),
                None => Source::Value(source),
            };
            ((*field).to_owned(), source)
        });
        Self(pairs.collect())
    }

    /// Whether it writes that field.
    pub fn contains(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Its fields, and what is written into each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.0
            .iter()
            .map(|(field, source)| (field.as_str(), source))
    }

    /// The fields as a CRM's API takes them. What a note says nothing of is emptied, so that an
    /// update leaves nothing old; what it does not know (a rep without an id there) is left alone.
    pub fn render(&self, note: &Note, style: Style) -> Map<String, serde_json::Value> {
        let fields = self.0.iter().filter_map(|(field, source)| {
            let value = match source {
                Source::Fixed(text) => serde_json::Value::from(text.as_str()),
                Source::Value(name) => value(note.get(name)?, style),
            };
            Some((field.clone(), value))
        });
        fields.collect()
    }
}

fn value(value: &Value, style: Style) -> serde_json::Value {
    use serde_json::Value as Json;
    match (value, style) {
        (Value::Nothing, Style::HubSpot) => Json::from(""),
        (Value::Nothing, Style::Salesforce) => Json::Null,
        (Value::Text(text), _) => Json::from(text.as_str()),
        (Value::Whole(number), Style::Salesforce) => Json::from(*number),
        (Value::Number(number), Style::Salesforce) => Json::from(*number),
        (Value::Flag(flag), Style::Salesforce) => Json::from(*flag),
        (Value::Time(ms), Style::Salesforce) => Json::from(super::words::iso(*ms)),
        (Value::Whole(number), Style::HubSpot) => Json::from(number.to_string()),
        (Value::Number(number), Style::HubSpot) => Json::from(number.to_string()),
        (Value::Flag(flag), Style::HubSpot) => Json::from(flag.to_string()),
        (Value::Time(ms), Style::HubSpot) => Json::from(ms.to_string()),
    }
}

/// What is written into a HubSpot call unless the tenant says otherwise.
pub fn hubspot_call() -> Mapping {
    Mapping::new(&[
        ("hs_timestamp", "started_at"),
        ("hs_call_title", "title"),
        ("hs_call_body", "body_html"),
        ("hs_call_duration", "duration_ms"),
        ("hs_call_status", "hubspot_status"),
        ("hs_call_disposition", "hubspot_disposition"),
        ("hubspot_owner_id", "owner"),
    ])
}

/// What is written into Salesforce's `Call_Coaching__c` unless the tenant says otherwise.
pub fn salesforce_object() -> Mapping {
    Mapping::new(&[
        ("Call_Id__c", "call_id"),
        ("Started_At__c", "started_at"),
        ("Duration_Seconds__c", "duration_s"),
        ("Rep__c", "rep"),
        ("Outcome__c", "outcome"),
        ("Objections__c", "objections"),
        ("Sentiment__c", "sentiment"),
        ("Talk_Ratio__c", "talk_ratio"),
        ("Next_Step__c", "next_step"),
        ("Tips_Shown__c", "tips_shown"),
        ("Tips_Used__c", "tips_used"),
        ("Note__c", "body"),
        ("Link__c", "link"),
    ])
}

/// What is written into a Salesforce task unless the tenant says otherwise.
pub fn salesforce_task() -> Mapping {
    Mapping::new(&[
        ("Subject", "title"),
        ("Description", "body"),
        ("Status", "=Completed"),
        ("Priority", "=Normal"),
        ("TaskSubtype", "=Call"),
        ("ActivityDate", "day"),
        ("CallDurationInSeconds", "duration_s"),
        ("CallDisposition", "outcome"),
        ("CallObject", "call_id"),
        ("OwnerId", "owner"),
    ])
}
