//! The record that every replay leaves: who, what, when, how far, and what came of it.
//!
//! A topic of its own, `coach.replays`, and no table: a replay may be there to bring back the very
//! database, and a redrive can write what it has redriven in the same transaction as the records
//! themselves. One JSON object a record, so that any Kafka tool shows it. It is kept for good.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use schemas::Codec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, ReplayError, Selection, Source, spans};
use crate::dead_letter::OutRecord;
use crate::kafka::Quiet;
use crate::{Kafka, Producer, clock};

/// The topic, without a prefix.
pub const TOPIC: &str = "coach.replays";
/// A replay that has said nothing for so long, in milliseconds, is not running any more.
pub const SILENT_MS: i64 = 15_000;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The replay.
    pub replay: String,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// A record's place: topic on the broker, partition, offset.
pub type Place = (String, i32, i64);

/// What happened to a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// It began, or went on after a stop.
    Begun {
        /// Its kind.
        kind: Kind,
        /// Who asked for it: user and machine.
        by: String,
        /// What was asked for, as the command keeps it.
        request: Value,
    },
    /// It is alive.
    Progress {
        /// Records done.
        done: u64,
        /// Records there are, about.
        total: u64,
        /// Where to go on, of each partition.
        places: Vec<Place>,
    },
    /// These dead letters were redriven; written in the transaction that redrove them.
    Redriven {
        /// Where the letters lie.
        letters: Vec<Place>,
    },
    /// It stopped at a moment where nothing is half done, and can go on.
    Stopped,
    /// Someone wants it to end.
    CancelAsked {
        /// Who.
        by: String,
    },
    /// It is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// What came of it.
        result: Value,
    },
}

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should.
    Finished,
    /// It was cancelled.
    Cancelled,
    /// It could not go on; `result` says why.
    Failed,
}

/// How a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Running,
    /// It stopped, or its process is gone; it can go on.
    Stopped,
    /// It is over.
    Ended(Outcome),
}

/// What the journal tells of one replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Who began it.
    pub by: String,
    /// When, in milliseconds since 1970.
    pub begun_at: i64,
    /// What was asked for.
    pub request: Value,
    /// When it was last heard of, in milliseconds since 1970.
    pub heard_at: i64,
    /// Records done.
    pub done: u64,
    /// Records there are, about.
    pub total: u64,
    /// Where to go on, of each partition.
    pub places: Vec<Place>,
    /// What came of it, once it is over.
    pub ended: Option<(Outcome, Value)>,
    stopped: bool,
}

impl Replay {
    /// How it stands at this time, in milliseconds since 1970.
    pub fn standing(&self, now: i64) -> Standing {
        match &self.ended {
            Some((outcome, _)) => Standing::Ended(*outcome),
            None if self.stopped || now - self.heard_at > SILENT_MS => Standing::Stopped,
            None => Standing::Running,
        }
    }
}

/// All that the journal tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The replays, oldest first.
    pub replays: Vec<Replay>,
    /// Dead letters that were redriven, ever.
    pub redriven: HashSet<Place>,
}

impl History {
    /// Takes in an entry.
    pub fn take(&mut self, entry: Entry) {
        let Entry {
            replay: id,
            at,
            step,
        } = entry;
        if let Step::Begun { kind, by, request } = &step
            && self.find(&id).is_none()
        {
            self.replays.push(Replay {
                id: id.clone(),
                kind: *kind,
                by: by.clone(),
                begun_at: at,
                request: request.clone(),
                heard_at: at,
                done: 0,
                total: 0,
                places: Vec::new(),
                ended: None,
                stopped: false,
            });
        }
        let known = self.replays.iter_mut().find(|replay| replay.id == id);
        let Some(replay) = known else { return };
        match step {
            Step::Begun { .. } => {
                replay.stopped = false;
                replay.ended = None;
            }
            Step::Progress {
                done,
                total,
                places,
            } => {
                (replay.done, replay.total) = (done, total);
                replay.places = places;
            }
            Step::Redriven { letters } => {
                replay.done += letters.len() as u64;
                self.redriven.extend(letters);
            }
            Step::Stopped => replay.stopped = true,
            // Asked by another process: no sign of life of its own.
            Step::CancelAsked { .. } => return,
            Step::Ended { outcome, result } => replay.ended = Some((outcome, result)),
        }
        replay.heard_at = replay.heard_at.max(at);
    }

    /// The replay of that id.
    pub fn find(&self, id: &str) -> Option<&Replay> {
        self.replays.iter().find(|replay| replay.id == id)
    }
}

/// The journal, to write in.
#[derive(Clone)]
pub struct Journal {
    topic: String,
    producer: Producer,
}

impl Journal {
    /// Opens the journal; makes its topic when it is missing.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn open(kafka: &Kafka, codec: Arc<Codec>) -> Result<Self, ReplayError> {
        let topic = name(kafka);
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(kafka.replication))
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1");
        let admin: AdminClient<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            match made {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(KafkaError::AdminOp(code).into()),
            }
        }
        kafka.wait_for_topics(std::slice::from_ref(&topic)).await?;
        let producer = Producer::new(kafka, codec)?;
        Ok(Self { topic, producer })
    }

    /// Writes down what happened to a replay.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn write(&self, replay: &str, step: Step) -> Result<(), ReplayError> {
        let record = self.record(replay, step)?;
        self.producer.send_record(record).await?;
        Ok(())
    }

    /// The entry as a record, for a transaction.
    pub(crate) fn record(&self, replay: &str, step: Step) -> Result<OutRecord, ReplayError> {
        let entry = Entry {
            replay: replay.to_owned(),
            at: clock::now(),
            step,
        };
        Ok(OutRecord {
            topic: self.topic.clone(),
            key: Some(replay.as_bytes().to_vec()),
            payload: Some(serde_json::to_vec(&entry)?),
            headers: OwnedHeaders::new(),
        })
    }
}

/// The topic's name on the broker.
pub fn name(kafka: &Kafka) -> String {
    format!("{}{TOPIC}", kafka.prefix)
}

/// Reads the whole journal; an empty history where there has been no replay.
///
/// # Errors
/// When Kafka refuses, or an entry is none.
pub async fn read(kafka: &Kafka) -> Result<History, ReplayError> {
    Ok(read_since(kafka, BTreeMap::new()).await?.0)
}

/// Reads the journal from these offsets on; also says where it ended.
pub(crate) async fn read_since(
    kafka: &Kafka,
    from: BTreeMap<i32, i64>,
) -> Result<(History, BTreeMap<i32, i64>, Vec<Entry>), ReplayError> {
    let mut spans = match spans(kafka, &[name(kafka)], &Selection::default()).await {
        Err(ReplayError::NoTopic(_)) => return Ok((History::default(), from, Vec::new())),
        spans => spans?,
    };
    for ((_, partition), span) in &mut spans {
        let from = from.get(partition).copied().unwrap_or(span.from);
        span.from = from.clamp(span.from, span.to);
    }
    let mut next = from;
    let mut history = History::default();
    let mut entries = Vec::new();
    let mut source = Source::open(kafka, &spans)?;
    while let Some(record) = source.next().await {
        let raw = record?;
        let entry: Entry = serde_json::from_slice(raw.payload())?;
        next.insert(raw.origin.partition, raw.origin.offset + 1);
        history.take(entry.clone());
        entries.push(entry);
    }
    Ok((history, next, entries))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(at: i64, step: Step) -> Entry {
        Entry {
            replay: "redrive-1".into(),
            at,
            step,
        }
    }

    fn begun() -> Step {
        Step::Begun {
            kind: Kind::Redrive,
            by: "ana@desk".into(),
            request: json!({"reason": "decode"}),
        }
    }

    #[test]
    fn an_entry_is_one_json_object_that_reads_back() {
        let steps = [
            begun(),
            Step::Redriven {
                letters: vec![("t.dead".into(), 3, 17)],
            },
            Step::Stopped,
        ];
        for step in steps {
            let text = serde_json::to_string(&entry(5, step.clone())).unwrap();
            assert!(
                text.starts_with(r#"{"replay":"redrive-1","at":5,"step":""#),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap().step, step);
        }
    }

    #[test]
    fn a_replay_runs_while_it_is_heard_of_and_ends_once() {
        let mut history = History::default();
        history.take(entry(1_000, begun()));
        let standing = |history: &History, now| history.find("redrive-1").unwrap().standing(now);
        assert_eq!(standing(&history, 2_000), Standing::Running);
        assert_eq!(standing(&history, 1_001 + SILENT_MS), Standing::Stopped);
        history.take(entry(3_000, Step::Stopped));
        assert_eq!(standing(&history, 3_001), Standing::Stopped);
        history.take(entry(4_000, begun()));
        assert_eq!(standing(&history, 4_001), Standing::Running);
        history.take(entry(5_000, Step::CancelAsked { by: "ben".into() }));
        assert_eq!(history.replays[0].heard_at, 4_000);
        let letters = vec![("t.dead".to_owned(), 0, 1), ("t.dead".to_owned(), 0, 2)];
        history.take(entry(6_000, Step::Redriven { letters }));
        history.take(entry(
            7_000,
            Step::Ended {
                outcome: Outcome::Finished,
                result: json!({}),
            },
        ));
        assert_eq!(
            standing(&history, 9_999_999),
            Standing::Ended(Outcome::Finished)
        );
        assert_eq!((history.replays.len(), history.redriven.len()), (1, 2));
        assert_eq!(
            (history.replays[0].done, history.replays[0].begun_at),
            (2, 1_000)
        );
    }
}
