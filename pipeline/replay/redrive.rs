//! Dead letters back through the stage that gave them up.
//!
//! A letter goes to the topic it came from, for that one stage: its [`Mark`] names the stage, and
//! every other reader of the topic, which had the record when it was new, passes over it. What the
//! stage makes of it is new to all that follow.
//!
//! Each transaction holds some letters and the line of the journal that says so. Whatever happens
//! in between, a letter is redriven once: whoever begins or goes on reads the journal first. One
//! redrive runs at a time; a second one fences the first.

use std::collections::HashSet;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use schemas::Topic;

use super::journal::{Journal, Place, Step};
use super::mark::header as mark_header;
use super::session::Session;
use super::{Kind, Mark, Pace, ReplayError, Selection, Source, journal, spans};
use crate::dead_letter::{OutRecord, RawRecord, header};
use crate::kafka::is_passing;
use crate::runner::Settings;
use crate::runner::work::backoff;
use crate::runner::writer::Writer;
use crate::{Decoder, Kafka, StageError};

/// Name of the one redrive that may run, as part of its transactional id.
const INSTANCE: &str = "redrive";
/// What the headers of a dead letter begin with.
const DEAD: &str = "dead.";

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By time, offsets, tenant and call; time is when it was given up.
    pub selection: Selection,
    /// Given up by this stage.
    pub stage: Option<String>,
    /// Given up for this reason.
    pub reason: Option<String>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    raw: RawRecord,
    /// The topic it came from, on the broker.
    pub topic: String,
    /// The stage that gave it up.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
    /// Partition and offset of the record when it was new.
    first: (i32, i64),
}

impl Letter {
    /// Where the letter lies.
    pub fn place(&self) -> Place {
        let origin = &self.raw.origin;
        (origin.topic.clone(), origin.partition, origin.offset)
    }

    /// Its call, as the record's key says.
    pub fn call(&self) -> String {
        String::from_utf8_lossy(self.raw.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// Size of its key and payload, in bytes.
    pub fn bytes(&self) -> usize {
        self.raw.payload().len() + self.raw.key.as_ref().map_or(0, Vec::len)
    }

    /// When it was given up, in milliseconds since 1970.
    pub fn at(&self) -> i64 {
        self.raw.timestamp
    }

    fn of(raw: RawRecord) -> Option<Self> {
        let text = |key: &str| {
            // A letter has one set of headers; the last is the newest all the same.
            let headers = raw.headers.iter().filter(|header| header.key == key);
            let header = headers.last()?;
            Some(String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
        };
        let partition = text(header::PARTITION)?.parse().ok()?;
        let offset = text(header::OFFSET)?.parse().ok()?;
        let first = text(mark_header::FIRST).and_then(|first| {
            let (partition, offset) = first.split_once('/')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        });
        Some(Self {
            topic: text(header::TOPIC)?,
            stage: text(header::STAGE)?,
            reason: text(header::REASON)?,
            detail: text(header::DETAIL).unwrap_or_default(),
            first: first.unwrap_or((partition, offset)),
            raw,
        })
    }

    /// The record as it was, marked for its stage.
    fn record(&self, mark: &Mark) -> OutRecord {
        let (partition, offset) = self.first;
        let first = format!("{partition}/{offset}");
        let headers = self.raw.headers.iter();
        let original = headers.filter(|header| {
            !header.key.starts_with(DEAD) && !header.key.starts_with(mark_header::PREFIX)
        });
        let headers = original.fold(OwnedHeaders::new(), |headers, header| {
            headers.insert(header)
        });
        let headers = mark.put(headers).insert(Header {
            key: mark_header::FIRST,
            value: Some(&first),
        });
        OutRecord {
            topic: self.topic.clone(),
            key: self.raw.key.clone(),
            payload: self.raw.payload.clone(),
            headers,
        }
    }
}

/// The dead letters that were found.
#[derive(Debug, Default)]
pub struct Letters {
    /// Those to redrive, each call's in the order in which its records were new.
    pub letters: Vec<Letter>,
    /// So many selected ones were redriven before.
    pub before: u64,
    /// So many have no headers of a dead letter, or came from elsewhere.
    pub foreign: u64,
    /// So many are no event, so that nobody knows their tenant.
    pub unreadable: u64,
}

/// Finds dead letters of these topics.
///
/// # Errors
/// When Kafka refuses.
pub async fn letters(
    kafka: &Kafka,
    decoder: &Decoder,
    topics: &[Topic],
    wanted: &Wanted,
    redriven: &HashSet<Place>,
) -> Result<Letters, ReplayError> {
    let names: Vec<String> = topics.iter().map(|topic| kafka.dead(topic)).collect();
    let spans = spans(kafka, &names, &wanted.selection).await?;
    let mut source = Source::open(kafka, &spans)?;
    let mut found = Letters::default();
    while let Some(record) = source.next().await {
        let raw = record?;
        if !wanted.selection.takes_key(raw.key.as_deref()) {
            continue;
        }
        let Some(letter) = Letter::of(raw).filter(|letter| kafka.row(&letter.topic).is_some())
        else {
            found.foreign += 1;
            continue;
        };
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|it| it == is);
        if !fits(&wanted.stage, &letter.stage) || !fits(&wanted.reason, &letter.reason) {
            continue;
        }
        match of_tenant(kafka, decoder, &letter, &wanted.selection).await? {
            Some(true) => {}
            Some(false) => continue,
            None => {
                found.unreadable += 1;
                continue;
            }
        }
        if redriven.contains(&letter.place()) {
            found.before += 1;
            continue;
        }
        found.letters.push(letter);
    }
    // A letter that came back dead keeps its place among those of its call.
    found.letters.sort_by(|a, b| {
        let key = |letter: &Letter| (letter.raw.origin.topic.clone(), letter.first);
        key(a).cmp(&key(b))
    });
    Ok(found)
}

/// Whether a letter is of the selected tenant; none when it is no event.
async fn of_tenant(
    kafka: &Kafka,
    decoder: &Decoder,
    letter: &Letter,
    selection: &Selection,
) -> Result<Option<bool>, ReplayError> {
    if selection.tenant.is_none() {
        return Ok(Some(true));
    }
    let mut raw = letter.raw.clone();
    raw.origin.topic.clone_from(&letter.topic);
    match decoder.any(&kafka.prefix, &raw).await {
        Ok(envelope) => Ok(Some(selection.takes(envelope.event.head()))),
        Err(StageError::Poison(_)) => Ok(None),
        Err(error) => Err(ReplayError::Stage {
            stage: "decoder",
            error: error.into(),
        }),
    }
}

/// Redrives letters, some in each transaction; gives how many it was. `effects` is the operator's
/// word that a stage with effects outside may do for its own letters what it could not do before.
///
/// # Errors
/// On a stop, between two transactions; [`ReplayError::Overtaken`]; when Kafka refuses for good.
pub async fn redrive(
    kafka: &Kafka,
    settings: &Settings,
    session: &Session,
    letters: Vec<Letter>,
    (rate, effects): (Option<u32>, bool),
) -> Result<u64, ReplayError> {
    let settings = Settings {
        instance: Some(INSTANCE.to_owned()),
        ..settings.clone()
    };
    let mut driver = Driver {
        writer: Some(Writer::new(kafka, "replay", &settings)),
        kafka,
        settings: &settings,
        session,
        effects,
        done: 0,
    };
    let mut pace = Pace::new(rate);
    let size = pace.batch(settings.batch);
    let mut left = driver.unwritten(letters).await?;
    while !left.is_empty() {
        session.progress().check()?;
        let batch: Vec<Letter> = left.drain(..size.min(left.len())).collect();
        session
            .progress()
            .unless_stopped(pace.take(batch.len()))
            .await?;
        driver.write(batch).await?;
    }
    Ok(driver.done)
}

struct Driver<'a> {
    /// None while a transaction is on its way.
    writer: Option<Writer>,
    kafka: &'a Kafka,
    settings: &'a Settings,
    session: &'a Session,
    effects: bool,
    done: u64,
}

impl Driver<'_> {
    /// Writes a batch, however often that takes, and once.
    async fn write(&mut self, mut batch: Vec<Letter>) -> Result<(), ReplayError> {
        let mut tries = 0;
        while !batch.is_empty() {
            let records = self.records(&batch)?;
            let count = batch.len();
            match self
                .with_writer(move |writer| writer.write_alone(&records))
                .await
            {
                Ok(()) => {
                    self.session.progress().advance(count);
                    self.done += count as u64;
                    return Ok(());
                }
                Err(error) => {
                    tries += 1;
                    self.failed(error, tries).await?;
                    // Whether they were written is for the journal to tell.
                    let before = batch.len();
                    batch = self.unwritten(batch).await?;
                    self.done += (before - batch.len()) as u64;
                    self.session.progress().advance(before - batch.len());
                }
            }
        }
        Ok(())
    }

    /// Those that are not redriven yet. Opens the writer before: from then on no earlier redrive
    /// writes any more, so that what the journal says stays true.
    async fn unwritten(&mut self, mut letters: Vec<Letter>) -> Result<Vec<Letter>, ReplayError> {
        let mut tries = 0;
        while let Err(error) = self.with_writer(Writer::open).await {
            tries += 1;
            self.failed(error, tries).await?;
        }
        let history = journal::read(self.kafka).await?;
        letters.retain(|letter| !history.redriven.contains(&letter.place()));
        Ok(letters)
    }

    async fn failed(&self, error: KafkaError, tries: u32) -> Result<(), ReplayError> {
        let fenced = self.writer.as_ref();
        if fenced.is_some_and(|writer| writer.is_fenced_for_good(&error)) {
            return Err(ReplayError::Overtaken);
        }
        if !is_passing(&error) {
            return Err(error.into());
        }
        let pause = backoff(tries, self.settings);
        tracing::warn!(%error, pause_ms = pause.as_millis(), "kafka is not ready, trying again");
        let waited = tokio::time::sleep(pause);
        self.session.progress().unless_stopped(waited).await
    }

    fn records(&self, batch: &[Letter]) -> Result<Vec<OutRecord>, ReplayError> {
        let mut records: Vec<OutRecord> = batch
            .iter()
            .map(|letter| {
                letter.record(&Mark {
                    id: self.session.id.clone(),
                    kind: Kind::Redrive,
                    stage: Some(letter.stage.clone()),
                    effects: self.effects,
                })
            })
            .collect();
        let letters = batch.iter().map(Letter::place).collect();
        let journal: &Journal = &self.session.journal;
        records.push(journal.record(&self.session.id, Step::Redriven { letters })?);
        Ok(records)
    }

    /// Does something that blocks on Kafka.
    async fn with_writer(
        &mut self,
        work: impl FnOnce(&mut Writer) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), KafkaError> {
        let mut writer = self.writer.take().ok_or(KafkaError::Canceled)?;
        let working = tokio::task::spawn_blocking(move || {
            let worked = work(&mut writer);
            (writer, worked)
        });
        let (writer, worked) = working.await.map_err(|_| KafkaError::Canceled)?;
        self.writer = Some(writer);
        worked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::letter;
    use crate::{Origin, Poison};

    fn raw(topic: &str, offset: i64, headers: OwnedHeaders) -> RawRecord {
        RawRecord {
            origin: Origin {
                topic: topic.into(),
                partition: 2,
                offset,
            },
            timestamp: 1_790_000_000_000,
            key: Some(b"call-1".to_vec()),
            payload: Some(vec![1, 2, 3]),
            headers,
        }
    }

    /// The letter that a record ends as, read back from the topic of dead letters.
    fn dead(record: RawRecord, at: i64) -> Letter {
        let poison = Poison::new("decode", "no event");
        let out = letter(record, "t.dead", "insights", &poison);
        Letter::of(RawRecord {
            key: out.key,
            payload: out.payload,
            ..raw("t.dead", at, out.headers)
        })
        .unwrap()
    }

    #[test]
    fn a_letter_goes_back_as_it_was_and_says_for_whom() {
        let trace = OwnedHeaders::new().insert(Header {
            key: "traceparent",
            value: Some("00-a-b-01"),
        });
        let mark = Mark {
            id: "redrive-1".into(),
            kind: Kind::Redrive,
            stage: Some("insights".into()),
            effects: false,
        };
        let letter = dead(raw("t", 42, trace), 7);
        assert_eq!(
            (letter.stage.as_str(), letter.reason.as_str()),
            ("insights", "decode")
        );
        let record = letter.record(&mark);
        assert_eq!(
            (record.topic.as_str(), record.payload),
            ("t", Some(vec![1, 2, 3]))
        );
        let keys: Vec<&str> = record.headers.iter().map(|header| header.key).collect();
        let expected = [
            "traceparent",
            "replay.id",
            "replay.kind",
            "replay.stage",
            "replay.first",
        ];
        assert_eq!(keys, expected);
        assert_eq!(Mark::of(&record.headers), Some(mark));
    }

    #[test]
    fn a_letter_that_comes_back_dead_keeps_its_place_in_the_call() {
        let mark = Mark {
            id: "redrive-1".into(),
            kind: Kind::Redrive,
            stage: Some("insights".into()),
            effects: false,
        };
        let once = dead(raw("t", 42, OwnedHeaders::new()), 7);
        let again = dead(raw("t", 900, once.record(&mark).headers), 8);
        assert_eq!(again.first, (2, 42));
        let record = again.record(&mark);
        let keys: Vec<&str> = record.headers.iter().map(|header| header.key).collect();
        assert_eq!(
            keys,
            ["replay.id", "replay.kind", "replay.stage", "replay.first"]
        );
    }
}
