//! What marks a replayed record: headers that ride with it and with all that is made of it.

use std::fmt;

use rdkafka::message::{Header, Headers, OwnedHeaders};
use serde::{Deserialize, Serialize};

/// Headers of a replayed record.
pub mod header {
    /// Which replay wrote the record. Whoever finds it knows: this is no news.
    pub const ID: &str = "replay.id";
    /// What kind of replay.
    pub const KIND: &str = "replay.kind";
    /// The one stage that a redriven record is for: the one that gave it up.
    pub const STAGE: &str = "replay.stage";
    /// `yes` when the operator allows that stage's effects outside.
    pub const EFFECTS: &str = "replay.effects";
    /// Partition and offset of the record when it was new, over any number of redrives.
    pub const FIRST: &str = "replay.first";
    /// What they all begin with.
    pub const PREFIX: &str = "replay.";
}

/// What a replay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sink's rows anew from the topics.
    Rebuild,
    /// Dead letters back through the stage that gave them up.
    Redrive,
    /// Recorded calls through a stage set up otherwise, onto topics of the replay's own.
    Shadow,
}

impl Kind {
    /// As it stands in headers and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Redrive => "redrive",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The mark of a replayed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The replay.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The one stage it is for; none for what a stage made of such a record.
    pub stage: Option<String>,
    /// Whether that stage's effects outside are allowed.
    pub effects: bool,
}

impl Mark {
    /// The mark on a record, if it has one. One that cannot be read counts as a shadow's, which no
    /// live stage takes.
    pub fn of<H: Headers>(headers: &H) -> Option<Self> {
        let text = |key: &str| {
            let header = headers.iter().find(|header| header.key == key)?;
            Some(String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
        };
        let id = text(header::ID)?;
        let kind = match text(header::KIND).as_deref() {
            Some("redrive") => Kind::Redrive,
            _ => Kind::Shadow,
        };
        Some(Self {
            id,
            kind,
            stage: text(header::STAGE),
            effects: text(header::EFFECTS).as_deref() == Some("yes"),
        })
    }

    /// The mark of what a stage makes of a record with this one: new to whoever reads it, and
    /// still no news.
    pub fn made(&self) -> Self {
        Self {
            stage: None,
            effects: false,
            ..self.clone()
        }
    }

    /// These headers with the mark on them.
    pub(crate) fn put(&self, headers: OwnedHeaders) -> OwnedHeaders {
        let pairs = [
            (header::ID, Some(self.id.as_str())),
            (header::KIND, Some(self.kind.as_str())),
            (header::STAGE, self.stage.as_deref()),
            (header::EFFECTS, self.effects.then_some("yes")),
        ];
        pairs.into_iter().fold(headers, |headers, (key, value)| {
            let Some(value) = value else { return headers };
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for stage in [None, Some("crm".to_owned())] {
            let mark = Mark {
                id: "redrive-1".into(),
                kind: Kind::Redrive,
                effects: stage.is_some(),
                stage,
            };
            assert_eq!(Mark::of(&mark.put(OwnedHeaders::new())), Some(mark.clone()));
            assert_eq!(mark.made().stage, None);
            assert_eq!(mark.made().id, mark.id);
        }
        assert_eq!(Mark::of(&OwnedHeaders::new()), None);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_a_shadows() {
        let headers = OwnedHeaders::new().insert(Header {
            key: header::ID,
            value: Some(&[0xff_u8, 0xfe][..]),
        });
        assert_eq!(Mark::of(&headers).map(|mark| mark.kind), Some(Kind::Shadow));
    }
}
