//! A stage's error is an instruction to the runner.

use std::borrow::Cow;

use schemas::CodecError;

use crate::SealError;

/// Why a record can never be processed, whoever tries and however often.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Poison {
    /// Short and of a fixed set: a metric label, and how operators select dead letters.
    pub reason: Cow<'static, str>,
    /// What exactly is wrong. Nothing personal.
    pub detail: String,
}

impl Poison {
    /// A poison of that reason.
    pub fn new(reason: impl Into<Cow<'static, str>>, detail: impl ToString) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.to_string(),
        }
    }
}

/// What went wrong in a stage, as an instruction to the runner.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// No retry can help: dead-letter this record and go on.
    #[error("poison: {0}")]
    Poison(#[from] Poison),
    /// Nothing can come of this record, and that is in order: count it under this reason, a short
    /// name of a fixed set.
    #[error("skip: {0}")]
    Skip(&'static str),
    /// It may work later: try again with backoff, in order, losing nothing.
    #[error("transient: {0}")]
    Transient(#[source] anyhow::Error),
    /// The stage itself is broken: stop it, loudly.
    #[error("fatal: {0}")]
    Fatal(#[source] anyhow::Error),
}

impl StageError {
    /// It may work later.
    pub fn transient(error: impl Into<anyhow::Error>) -> Self {
        Self::Transient(error.into())
    }

    /// The stage itself is broken.
    pub fn fatal(error: impl Into<anyhow::Error>) -> Self {
        Self::Fatal(error.into())
    }
}

/// What a stage or sink does about content that does not open.
impl From<SealError> for StageError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::NoKey(_) => Self::Skip("erased"),
            SealError::Broken { .. } => Self::Poison(Poison::new("seal", error)),
            SealError::Store(_) => Self::transient(error),
            SealError::WrongMasterKey { .. } | SealError::BadMasterKey => Self::fatal(error),
        }
    }
}

/// A record that is no event, once its schema is known.
impl From<CodecError> for Poison {
    fn from(error: CodecError) -> Self {
        let reason = match error {
            CodecError::UnknownSchema(_) => "schema",
            CodecError::UnknownTopic(_) => "topic",
            _ => "decode",
        };
        Self::new(reason, error)
    }
}
