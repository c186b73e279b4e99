//! Bytes that only the holder of a call's data key can read.

use serde::{Deserialize, Serialize};

/// Personal content under AES-256-GCM. How it is sealed and opened is the pipeline's business;
/// here it is only bytes that must not be mistaken for others.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(#[serde(with = "apache_avro::serde::bytes")] pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}
