//! Every byte on a topic: the events, their Avro schemas, and the topic table.
//!
//! A call is one ordered story on one key. Each topic carries the call's `Started`, then what its
//! level adds (audio chunk, utterance, insight, tip), then `Ended`. So every event is an
//! [`Event<T>`] with `T` the topic's own [`Item`]. Knows neither Kafka nor tokio.

pub mod any;
pub mod audio;
pub mod call;
pub mod codec;
pub mod crm;
pub mod event;
pub mod feedback;
pub mod insight;
pub mod sealed;
pub mod tip;
pub mod topics;
pub mod transcript;

pub use any::AnyEvent;
pub use audio::{Chunk, Encoding};
pub use call::{
    Conversation, EndReason, Ended, Language, ObjectionKind, ObjectionOutcome, Speaker, Started,
};
pub use codec::{Codec, CodecError};
pub use crm::{Crm, Note, NoteCause, NoteRequest, NoteResult, ParkedNote};
pub use event::{Body, Event, EventId, Head, Item};
pub use feedback::{Action, Feedback};
pub use insight::{Insight, Objection, Sentiment, SentimentLabel};
pub use sealed::Sealed;
pub use tip::Tip;
pub use topics::Topic;
pub use transcript::{Utterance, count_words};
