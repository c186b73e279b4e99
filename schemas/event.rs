//! The event: a head that every event has, and a body that is one step of the call's story.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Ended, Started, Topic};

/// Namespace of all event ids; part of the data format, never to change.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_5c0a_0d6b_5e1c_9a53_3c0f_7b1e_a001);

/// Deterministic id of an event: the same event has the same id in every run and replay, so that
/// everything beyond Kafka can be idempotent on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Id of the `index`th event that `author` (a stage or producer) derives from `origin`
    /// (the input's event id, or the call id).
    pub fn derive(author: &str, origin: &str, index: u32) -> Self {
        let name = format!("{author}\u{1f}{origin}\u{1f}{index}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for EventId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// What every event tells about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Deterministic id.
    pub event_id: EventId,
    /// The call, and the record's key.
    pub call_id: String,
    /// Customer organisation the call belongs to.
    pub tenant: String,
    /// Event time, in milliseconds since 1970: when what it tells happened on the line.
    pub time: i64,
}

/// What a topic's level adds to a call's story: an audio chunk, an utterance, an insight, a tip.
pub trait Item:
    Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq + Send + Sync + 'static
{
    /// The topic that carries it.
    const TOPIC: Topic;
    /// Name of its field in the topic's schema.
    const FIELD: &'static str;
}

/// One step of a call's story.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<T> {
    /// The call began.
    Started(Started),
    /// What this topic's level adds.
    Item(T),
    /// The call is over.
    Ended(Ended),
}

/// One event of the topic whose item is `T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<T> {
    /// Ids and time.
    pub head: Head,
    /// What happened.
    pub body: Body<T>,
}

// === Serde: the flat record of the topic's Avro schema ===

impl<T: Item> Serialize for Event<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, started, item, ended) = match &self.body {
            Body::Started(started) => ("started", Some(started), None, None),
            Body::Item(item) => (T::FIELD, None, Some(item), None),
            Body::Ended(ended) => ("ended", None, None, Some(ended)),
        };
        let mut record =
            serializer.serialize_struct("Event", if T::TOPIC.story { 8 } else { 6 })?;
        record.serialize_field("event_id", &self.head.event_id)?;
        record.serialize_field("call_id", &self.head.call_id)?;
        record.serialize_field("tenant", &self.head.tenant)?;
        record.serialize_field("time", &self.head.time)?;
        record.serialize_field("type", &EventType(kind))?;
        if T::TOPIC.story {
            record.serialize_field("started", &started)?;
        }
        record.serialize_field(T::FIELD, &item)?;
        if T::TOPIC.story {
            record.serialize_field("ended", &ended)?;
        }
        record.end()
    }
}

/// The enum symbol that tells which body is set.
struct EventType(&'static str);

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let index = match self.0 {
            "started" => 0,
            "ended" => 2,
            _ => 1,
        };
        serializer.serialize_unit_variant("EventType", index, self.0)
    }
}

impl<'de, T: Item> Deserialize<'de> for Event<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Event", &[], EventVisitor(PhantomData))
    }
}

struct EventVisitor<T>(PhantomData<T>);

impl<'de, T: Item> Visitor<'de> for EventVisitor<T> {
    type Value = Event<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an event of topic {}", T::TOPIC.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut event_id, mut call_id, mut tenant, mut time) = (None, None, None, None);
        let (mut started, mut item, mut ended) = (None, None::<T>, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "event_id" => event_id = Some(map.next_value()?),
                "call_id" => call_id = Some(map.next_value()?),
                "tenant" => tenant = Some(map.next_value()?),
                "time" => time = Some(map.next_value()?),
                "started" => started = map.next_value()?,
                "ended" => ended = map.next_value()?,
                field if field == T::FIELD => item = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let body = match (started, item, ended) {
            (Some(started), None, None) => Body::Started(started),
            (None, Some(item), None) => Body::Item(item),
            (None, None, Some(ended)) => Body::Ended(ended),
            _ => return Err(de::Error::custom("exactly one body must be set")),
        };
        Ok(Event {
            head: Head {
                event_id: event_id.ok_or_else(|| de::Error::missing_field("event_id"))?,
                call_id: call_id.ok_or_else(|| de::Error::missing_field("call_id"))?,
                tenant: tenant.ok_or_else(|| de::Error::missing_field("tenant"))?,
                time: time.ok_or_else(|| de::Error::missing_field("time"))?,
            },
            body,
        })
    }
}
