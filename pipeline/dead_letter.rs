//! Dead letters: records no retry can help, kept with their original bytes and where they come
//! from, so that an operator can fix the cause and send them again.

use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};

use crate::{Origin, Poison, TraceContext};
use crate::{clock, headers};

/// Headers of a dead letter, beside those of the original record.
pub mod header {
    /// Topic of the original record, on the broker.
    pub const TOPIC: &str = "dead.topic";
    /// Its partition.
    pub const PARTITION: &str = "dead.partition";
    /// Its offset.
    pub const OFFSET: &str = "dead.offset";
    /// Its timestamp, in milliseconds since 1970.
    pub const TIMESTAMP: &str = "dead.timestamp";
    /// The stage or sink that gave it up.
    pub const STAGE: &str = "dead.stage";
    /// Why, as a short name of a fixed set.
    pub const REASON: &str = "dead.reason";
    /// What exactly was wrong.
    pub const DETAIL: &str = "dead.detail";
    /// When it was given up, in milliseconds since 1970.
    pub const AT: &str = "dead.at";
}

/// A record as it came, kept until it is finished.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    pub origin: Origin,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
}

impl RawRecord {
    pub fn of(record: &BorrowedMessage<'_>) -> Self {
        Self {
            origin: Origin {
                topic: record.topic().to_owned(),
                partition: record.partition(),
                offset: record.offset(),
            },
            timestamp: record.timestamp().to_millis().unwrap_or(0),
            key: record.key().map(<[u8]>::to_vec),
            payload: record.payload().map(<[u8]>::to_vec),
            headers: headers::copy(record),
        }
    }

    pub fn trace(&self) -> TraceContext {
        headers::trace_of(Some(&self.headers))
    }

    pub fn payload(&self) -> &[u8] {
        self.payload.as_deref().unwrap_or_default()
    }
}

/// A record to write.
#[derive(Clone, Debug)]
pub(crate) struct OutRecord {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
}

/// The dead letter of a record, for topic `dead`.
pub(crate) fn letter(raw: RawRecord, dead: &str, stage: &str, poison: &Poison) -> OutRecord {
    let now = clock::now();
    let provenance = [
        (header::TOPIC, raw.origin.topic),
        (header::PARTITION, raw.origin.partition.to_string()),
        (header::OFFSET, raw.origin.offset.to_string()),
        (header::TIMESTAMP, raw.timestamp.to_string()),
        (header::STAGE, stage.to_owned()),
        (header::REASON, poison.reason.to_string()),
        (header::DETAIL, poison.detail.clone()),
        (header::AT, now.to_string()),
    ];
    let headers = provenance
        .iter()
        .fold(raw.headers, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
    OutRecord {
        topic: dead.to_owned(),
        key: raw.key,
        payload: raw.payload,
        headers,
    }
}

/// Tells a few bad records from a bad deploy: so many among the last twice as many are a flood.
#[derive(Debug)]
pub(crate) struct Flood {
    limit: usize,
    last: std::collections::VecDeque<bool>,
    poison: usize,
}

impl Flood {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            last: std::collections::VecDeque::new(),
            poison: 0,
        }
    }

    /// Counts a record; true once poison is a flood.
    pub fn count(&mut self, poison: bool) -> bool {
        if self.last.len() >= (self.limit * 2).max(1) && self.last.pop_front() == Some(true) {
            self.poison -= 1;
        }
        self.last.push_back(poison);
        self.poison += usize::from(poison);
        self.poison > self.limit
    }

    /// Forgets what was counted.
    pub fn reset(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Poison records and all records looked at.
    pub fn seen(&self) -> (usize, usize) {
        (self.poison, self.last.len())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn a_dead_letter_keeps_the_record_and_says_where_it_comes_from() {
        let original = OwnedHeaders::new().insert(Header {
            key: "traceparent",
            value: Some("00-a-b-01"),
        });
        let raw = RawRecord {
            origin: Origin {
                topic: "x.calls.audio".into(),
                partition: 7,
                offset: 42,
            },
            timestamp: 1_790_000_000_000,
            key: Some(b"call-1".to_vec()),
            payload: Some(vec![1, 2, 3]),
            headers: original,
        };
        let poison = Poison::new("decode", "bytes are no event");
        let letter = letter(raw, "x.calls.audio.dead", "transcription", &poison);
        assert_eq!(letter.topic, "x.calls.audio.dead");
        assert_eq!(letter.key.as_deref(), Some(&b"call-1"[..]));
        assert_eq!(letter.payload.as_deref(), Some(&[1, 2, 3][..]));
        let found: Vec<(String, String)> = letter
            .headers
            .as_borrowed()
            .iter()
            .map(|header| {
                let value = String::from_utf8(header.value.unwrap().to_vec()).unwrap();
                (header.key.to_owned(), value)
            })
            .collect();
        let expected = [
            ("traceparent", "00-a-b-01"),
            ("dead.topic", "x.calls.audio"),
            ("dead.partition", "7"),
            ("dead.offset", "42"),
            ("dead.timestamp", "1790000000000"),
            ("dead.stage", "transcription"),
            ("dead.reason", "decode"),
            ("dead.detail", "bytes are no event"),
        ];
        for ((key, value), (wanted_key, wanted)) in found.iter().zip(expected) {
            assert_eq!((key.as_str(), value.as_str()), (wanted_key, wanted));
        }
        assert_eq!(found[8].0, "dead.at");
    }

    #[test]
    fn a_flood_is_more_than_the_limit_among_twice_as_many() {
        let mut flood = Flood::new(10);
        assert!(!(0..1000).any(|n| flood.count(n % 2 == 0)));
        let mut flood = Flood::new(10);
        assert_eq!((1..).find(|_| flood.count(true)), Some(11));
        assert_eq!(flood.seen(), (11, 11));
    }
}
