//! What a replay would read, counted without changing anything.

use std::collections::{BTreeMap, HashSet};

use schemas::Topic;

use super::session::Progress;
use super::{ReplayError, Selection, Source, Spans};
use crate::dead_letter::RawRecord;
use crate::{Decoder, Kafka, StageError};

/// What lies on one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Selected records.
    pub records: u64,
    /// Their keys and payloads, in bytes.
    pub bytes: u64,
    /// Selected records that are no event.
    pub unreadable: u64,
}

/// What lies on all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By topic on the broker.
    pub topics: BTreeMap<String, Count>,
    /// Calls.
    pub calls: usize,
}

impl Counts {
    /// All topics together.
    pub fn sum(&self) -> Count {
        self.topics
            .values()
            .fold(Count::default(), |sum, count| Count {
                records: sum.records + count.records,
                bytes: sum.bytes + count.bytes,
                unreadable: sum.unreadable + count.unreadable,
            })
    }
}

/// Reads the selected records and counts them. The topics are the product's own.
///
/// # Errors
/// When Kafka refuses, or on a stop.
pub async fn count(
    kafka: &Kafka,
    decoder: &Decoder,
    spans: &Spans,
    selection: &Selection,
    progress: &Progress,
) -> Result<Counts, ReplayError> {
    let mut counts = Counts::default();
    for (topic, _) in spans.keys() {
        counts.topics.entry(topic.clone()).or_default();
    }
    let mut calls: HashSet<Vec<u8>> = HashSet::new();
    let mut source = Source::open(kafka, spans)?;
    while let Some(record) = progress.unless_stopped(source.next()).await? {
        let raw = record?;
        progress.advance(1);
        if !selection.takes_key(raw.key.as_deref()) {
            continue;
        }
        let readable = match selection.tenant {
            Some(_) => of_tenant(kafka, decoder, &raw, selection).await?,
            None => Some(true),
        };
        let count = counts.topics.entry(raw.origin.topic.clone()).or_default();
        match readable {
            Some(false) => continue,
            Some(true) => {}
            None => count.unreadable += 1,
        }
        count.records += 1;
        count.bytes += (raw.payload().len() + raw.key.as_ref().map_or(0, Vec::len)) as u64;
        if let Some(key) = raw.key {
            calls.insert(key);
        }
    }
    counts.calls = calls.len();
    Ok(counts)
}

/// Whether a record is of the selected tenant; none when it is no event.
async fn of_tenant(
    kafka: &Kafka,
    decoder: &Decoder,
    raw: &RawRecord,
    selection: &Selection,
) -> Result<Option<bool>, ReplayError> {
    match decoder.any(&kafka.prefix, raw).await {
        Ok(envelope) => Ok(Some(selection.takes(envelope.event.head()))),
        Err(StageError::Poison(_)) => Ok(None),
        Err(error) => Err(ReplayError::Stage {
            stage: "decoder",
            error: error.into(),
        }),
    }
}

/// The topics' names on the broker.
pub fn names(kafka: &Kafka, topics: &[Topic]) -> Vec<String> {
    topics.iter().map(|topic| kafka.topic(topic)).collect()
}
