//! Reads the events of spans, and how far back topics reach.

use std::collections::BTreeMap;

use schemas::{Event, Item};

use super::session::Progress;
use super::{ReplayError, Source, Spans};
use crate::{Decoder, Kafka, StageError, clock};

/// Hands every event of the spans to `take`; gives how many records were none.
///
/// # Errors
/// When Kafka refuses, or on a stop.
pub async fn each<T: Item>(
    kafka: &Kafka,
    decoder: &Decoder,
    spans: &Spans,
    progress: &Progress,
    mut take: impl FnMut(Event<T>),
) -> Result<u64, ReplayError> {
    let mut unreadable = 0;
    let mut source = Source::open(kafka, spans)?;
    while let Some(record) = progress.unless_stopped(source.next()).await? {
        match decoder.event::<T>(&record?).await {
            Ok(event) => take(event),
            Err(StageError::Poison(_)) => unreadable += 1,
            Err(error) => {
                let error = error.into();
                return Err(ReplayError::Stage {
                    stage: "decoder",
                    error,
                });
            }
        }
    }
    Ok(unreadable)
}

/// How far back each topic reaches: the time of its oldest record, in milliseconds since 1970; none
/// while it holds all that it ever got. Of several partitions that have lost records, the newest.
///
/// # Errors
/// When Kafka refuses, or on a stop.
pub async fn reach(
    kafka: &Kafka,
    spans: &Spans,
    progress: &Progress,
) -> Result<BTreeMap<String, Option<i64>>, ReplayError> {
    let mut since: BTreeMap<String, Option<i64>> = BTreeMap::new();
    let mut later = |topic: &str, at: i64| {
        let entry = since.entry(topic.to_owned()).or_default();
        *entry = Some(entry.map_or(at, |known: i64| known.max(at)));
    };
    let mut unknown = Spans::new();
    for ((topic, partition), span) in spans.iter().filter(|(_, span)| span.oldest > 0) {
        if span.oldest < span.to {
            let mut span = *span;
            span.from = span.oldest;
            unknown.insert((topic.clone(), *partition), span);
        } else {
            // Nothing is left of what there was.
            later(topic, clock::now());
        }
    }
    let mut source = Source::open(kafka, &unknown)?;
    while !unknown.is_empty() {
        let Some(record) = progress.unless_stopped(source.next()).await? else {
            break;
        };
        let raw = record?;
        let place = (raw.origin.topic, raw.origin.partition);
        if unknown.remove(&place).is_some() {
            later(&place.0, raw.timestamp);
        }
    }
    // What gave no record holds markers of transactions only.
    for (topic, _) in unknown.keys() {
        later(topic, clock::now());
    }
    for (topic, _) in spans.keys() {
        since.entry(topic.clone()).or_default();
    }
    Ok(since)
}
