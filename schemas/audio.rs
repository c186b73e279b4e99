//! `calls.audio`: call audio as it comes from the line.

use serde::{Deserialize, Serialize};

use crate::call::symbols;
use crate::{Item, Sealed, Topic, topics};

symbols! {
    /// How samples are written.
    Encoding {
        /// Signed 16-bit little-endian, channels interleaved.
        PcmS16le = "pcm_s16le",
    }
}

/// A stretch of audio of all channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where in the call the chunk begins, in milliseconds.
    pub offset_ms: i64,
    /// How long it is, in milliseconds.
    pub duration_ms: i64,
    /// Samples per second and channel.
    pub sample_rate: i32,
    /// How samples are written; channels are interleaved.
    pub encoding: Encoding,
    /// Sealed: the samples.
    pub audio: Sealed,
}

impl Item for Chunk {
    const TOPIC: Topic = topics::CALLS_AUDIO;
    const FIELD: &'static str = "chunk";
}
