//! How long after a fault a stage works again on every partition: the time from the fault, or from
//! the first record that it could have worked on since, to the first commit of the slowest one.
//!
//! A commit and the output that it makes visible are one transaction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pipeline::reader::{From, Replayed};
use pipeline::{Decoder, ReadError, Reader};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::{Codec, Topic, topics};
use tokio::time::Instant;

use crate::stand::{PARTITIONS, Scene};

/// How often the stages' offsets are asked for.
const EVERY: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// What is watched: a stage and a topic that it reads.
const WATCHED: [(&str, Topic); 3] = [
    ("insights", topics::CALLS_TRANSCRIPT),
    ("coaching", topics::CALLS_INSIGHTS),
    ("reporting", topics::CALLS_TRANSCRIPT),
];

/// A partition's committed offset at some time.
type Samples = Vec<(Instant, i64)>;

/// What was seen of one stage's partition. Pure.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Committed offset, as it was seen.
    pub committed: Samples,
    /// Records on its topic: when each came and its offset.
    pub records: Samples,
}

impl Track {
    /// From `since` to the first commit of something new; none when there was nothing to commit
    /// or it never came.
    pub fn recovery(&self, since: Instant) -> Option<Duration> {
        let after = self.committed.iter().filter(|(at, _)| *at >= since);
        let (_, before) = after.clone().next()?;
        let (came, _) = self.records.iter().find(|(_, offset)| offset >= before)?;
        let (at, _) = after.clone().find(|(_, committed)| committed > before)?;
        Some(at.saturating_duration_since(since.max(*came)))
    }
}

/// Watches a run.
pub struct Watch {
    tracks: Arc<Mutex<HashMap<(&'static str, i32), Track>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Watch {
    pub async fn begin(scene: &Scene) -> Self {
        let tracks: Arc<Mutex<HashMap<(&'static str, i32), Track>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let threads = WATCHED.map(|(stage, topic)| {
            let (scene, tracks, stop) = (scene.clone(), Arc::clone(&tracks), Arc::clone(&stop));
            std::thread::spawn(move || follow(&scene, stage, &topic, &tracks, &stop))
        });
        let decoder = Decoder::new(Arc::new(Codec::new().unwrap()), None);
        let inputs = [topics::CALLS_TRANSCRIPT, topics::CALLS_INSIGHTS];
        let opened = Reader::open(
            &scene.kafka,
            decoder,
            &inputs,
            From::Beginning,
            Replayed::Read,
        );
        let mut reader = opened.await.unwrap();
        let (kafka, noted) = (scene.kafka.clone(), Arc::clone(&tracks));
        let reading = tokio::spawn(async move {
            loop {
                let origin = match reader.next().await {
                    Ok(envelope) => envelope.origin,
                    Err(ReadError::Poison { origin, .. }) => origin,
                    Err(error) => panic!("{error}"),
                };
                let now = Instant::now();
                let mut tracks = noted.lock().unwrap_or_else(PoisonError::into_inner);
                for (stage, topic) in WATCHED {
                    if kafka.topic(&topic) == origin.topic {
                        let track = tracks.entry((stage, origin.partition)).or_default();
                        track.records.push((now, origin.offset));
                    }
                }
            }
        });
        Self {
            tracks,
            stop,
            threads: threads.into_iter().collect(),
            reading,
        }
    }

    /// Ends watching, and gives what was seen.
    pub fn end(self) -> Tracks {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.abort();
        for thread in self.threads {
            thread.join().unwrap();
        }
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        Tracks(tracks.clone())
    }
}

/// What was seen of all stages.
pub struct Tracks(HashMap<(&'static str, i32), Track>);

impl Tracks {
    /// The slowest partition's recovery of these stages, and which it is.
    pub fn recovery(&self, stages: &[&str], since: Instant) -> Option<(Duration, String)> {
        let tracks = self
            .0
            .iter()
            .filter(|((stage, _), _)| stages.contains(stage));
        let recovered = tracks.filter_map(|((stage, partition), track)| {
            Some((
                track.recovery(since)?,
                format!("{stage}, partition {partition}"),
            ))
        });
        recovered.max()
    }
}

fn follow(
    scene: &Scene,
    stage: &'static str,
    topic: &Topic,
    tracks: &Mutex<HashMap<(&'static str, i32), Track>>,
    stop: &AtomicBool,
) {
    let config = scene.kafka.consumer(&scene.kafka.group(stage), &[]);
    let mut consumer: BaseConsumer = config.create().unwrap();
    while !stop.load(Ordering::Relaxed) {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&scene.kafka.topic(topic), 0, PARTITIONS - 1);
        match consumer.committed_offsets(asked, ANSWER_WITHIN) {
            Ok(committed) => {
                let now = Instant::now();
                let mut tracks = tracks.lock().unwrap_or_else(PoisonError::into_inner);
                for element in committed.elements() {
                    let offset = match element.offset() {
                        Offset::Offset(offset) => offset,
                        _ => 0,
                    };
                    let track = tracks.entry((stage, element.partition())).or_default();
                    track.committed.push((now, offset));
                }
            }
            // Its broker is away. A client that is in no group does not look for another soon.
            Err(_) => consumer = config.create().unwrap(),
        }
        std::thread::sleep(EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(begun: Instant, committed: &[(u64, i64)], records: &[(u64, i64)]) -> Track {
        let at = |samples: &[(u64, i64)]| -> Samples {
            let samples = samples.iter();
            samples
                .map(|(ms, offset)| (begun + Duration::from_millis(*ms), *offset))
                .collect()
        };
        Track {
            committed: at(committed),
            records: at(records),
        }
    }

    #[test]
    fn recovery_is_from_the_fault_to_the_first_commit_of_something_new() {
        let begun = Instant::now();
        let committed = [(0, 3), (100, 5), (200, 5), (900, 5), (1_000, 6), (1_100, 9)];
        let track = track(begun, &committed, &[(10, 4), (50, 5), (60, 6)]);
        let since = begun + Duration::from_millis(90);
        assert_eq!(track.recovery(since), Some(Duration::from_millis(910)));
    }

    #[test]
    fn nobody_can_commit_what_has_not_come() {
        let begun = Instant::now();
        let track = track(begun, &[(100, 5), (800, 5), (900, 6)], &[(10, 4), (850, 5)]);
        assert_eq!(track.recovery(begun), Some(Duration::from_millis(50)));
    }

    #[test]
    fn there_is_no_recovery_without_work_or_without_its_end() {
        let begun = Instant::now();
        assert_eq!(
            track(begun, &[(100, 5), (200, 5)], &[(10, 4)]).recovery(begun),
            None
        );
        assert_eq!(
            track(begun, &[(100, 5), (200, 5)], &[(10, 5)]).recovery(begun),
            None
        );
    }
}
