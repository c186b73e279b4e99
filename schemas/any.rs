//! An event of any topic, for whoever reads several: the sink, the gateway, `coach tail`.

use serde::Serialize;

use crate::{
    Body, Chunk, Codec, CodecError, Ended, Event, Feedback, Head, Insight, Item, Note, NoteRequest,
    ParkedNote, Started, Tip, Utterance,
};

/// An event of any topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnyEvent {
    /// Of `calls.audio`.
    Audio(Event<Chunk>),
    /// Of `calls.transcript`.
    Transcript(Event<Utterance>),
    /// Of `calls.insights`.
    Insight(Event<Insight>),
    /// Of `coaching.tips`.
    Tip(Event<Tip>),
    /// Of `coaching.feedback`.
    Feedback(Event<Feedback>),
    /// Of `crm.requests`.
    NoteRequest(Event<NoteRequest>),
    /// Of `crm.parked`.
    ParkedNote(Event<ParkedNote>),
    /// Of `crm.notes`.
    Note(Event<Note>),
}

impl AnyEvent {
    /// Decodes a record of the topic named `topic` (without prefix).
    pub fn decode(codec: &Codec, topic: &str, bytes: &[u8]) -> Result<Self, CodecError> {
        match topic {
            t if t == Chunk::TOPIC.name => codec.decode(bytes).map(Self::Audio),
            t if t == Utterance::TOPIC.name => codec.decode(bytes).map(Self::Transcript),
            t if t == Insight::TOPIC.name => codec.decode(bytes).map(Self::Insight),
            t if t == Tip::TOPIC.name => codec.decode(bytes).map(Self::Tip),
            t if t == Feedback::TOPIC.name => codec.decode(bytes).map(Self::Feedback),
            t if t == NoteRequest::TOPIC.name => codec.decode(bytes).map(Self::NoteRequest),
            t if t == ParkedNote::TOPIC.name => codec.decode(bytes).map(Self::ParkedNote),
            t if t == Note::TOPIC.name => codec.decode(bytes).map(Self::Note),
            other => Err(CodecError::UnknownTopic(other.to_owned())),
        }
    }

    /// Ids and time.
    pub fn head(&self) -> &Head {
        match self {
            Self::Audio(event) => &event.head,
            Self::Transcript(event) => &event.head,
            Self::Insight(event) => &event.head,
            Self::Tip(event) => &event.head,
            Self::Feedback(event) => &event.head,
            Self::NoteRequest(event) => &event.head,
            Self::ParkedNote(event) => &event.head,
            Self::Note(event) => &event.head,
        }
    }

    /// How the call started, if that is what this event tells.
    pub fn started(&self) -> Option<&Started> {
        fn of<T>(event: &Event<T>) -> Option<&Started> {
            match &event.body {
                Body::Started(started) => Some(started),
                _ => None,
            }
        }
        match self {
            Self::Audio(event) => of(event),
            Self::Transcript(event) => of(event),
            Self::Insight(event) => of(event),
            Self::Tip(event) => of(event),
            Self::Feedback(event) => of(event),
            Self::NoteRequest(event) => of(event),
            Self::ParkedNote(event) => of(event),
            Self::Note(event) => of(event),
        }
    }

    /// How the call ended, if that is what this event tells.
    pub fn ended(&self) -> Option<&Ended> {
        fn of<T>(event: &Event<T>) -> Option<&Ended> {
            match &event.body {
                Body::Ended(ended) => Some(ended),
                _ => None,
            }
        }
        match self {
            Self::Audio(event) => of(event),
            Self::Transcript(event) => of(event),
            Self::Insight(event) => of(event),
            Self::Tip(event) => of(event),
            Self::Feedback(event) => of(event),
            Self::NoteRequest(event) => of(event),
            Self::ParkedNote(event) => of(event),
            Self::Note(event) => of(event),
        }
    }
}
