//! A replay while it runs: its progress, what makes it stop, and its lines in the journal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::journal::{self, Journal, Outcome, Place, Step};
use super::{Kind, ReplayError};
use crate::{Kafka, clock};

/// How often a running replay writes that it is alive and looks whether it is to end.
const BEAT: Duration = Duration::from_secs(2);

/// A replay that runs.
pub struct Session {
    /// Its id, on every record that it writes.
    pub id: String,
    /// Its journal.
    pub journal: Journal,
    progress: Arc<Progress>,
    _beating: DropGuard,
}

/// How far a replay is, and whether it is to stop.
#[derive(Debug)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    places: Mutex<BTreeMap<(String, i32), i64>>,
    /// Asked by a signal: stop where nothing is half done.
    stop: CancellationToken,
    /// Asked by `cancel`: end.
    cancel: CancellationToken,
}

impl Progress {
    /// Nothing done yet of `total` records, until `stop`.
    pub fn new(total: u64, stop: CancellationToken) -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(total),
            places: Mutex::default(),
            stop,
            cancel: CancellationToken::new(),
        }
    }

    /// So many more records are done.
    pub fn advance(&self, records: usize) {
        self.done.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// There turned out to be so many more.
    pub fn expect(&self, records: u64) {
        self.total.fetch_add(records, Ordering::Relaxed);
    }

    /// Where to go on in a partition.
    pub fn reach(&self, place: (String, i32), offset: i64) {
        self.places().insert(place, offset);
    }

    /// Records done, and about how many there are.
    pub fn seen(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed).max(done))
    }

    /// Goes on, or says why not.
    ///
    /// # Errors
    /// [`ReplayError::Cancelled`], [`ReplayError::Stopped`].
    pub fn check(&self) -> Result<(), ReplayError> {
        if self.cancel.is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        if self.stop.is_cancelled() {
            return Err(ReplayError::Stopped);
        }
        Ok(())
    }

    /// Waits for something, unless the replay is to stop.
    ///
    /// # Errors
    /// As [`Progress::check`].
    pub async fn unless_stopped<T>(&self, wait: impl Future<Output = T>) -> Result<T, ReplayError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(ReplayError::Cancelled),
            () = self.stop.cancelled() => Err(ReplayError::Stopped),
            done = wait => Ok(done),
        }
    }

    fn places(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, i32), i64>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> Step {
        let places = self.places();
        let places = places
            .iter()
            .map(|((topic, partition), offset)| (topic.clone(), *partition, *offset));
        let (done, total) = self.seen();
        Step::Progress {
            done,
            total,
            places: places.collect(),
        }
    }
}

/// What a session begins with.
pub struct Beginning {
    /// Its id; a new one from [`new_id`], or that of the replay that goes on.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Who asks for it.
    pub by: String,
    /// What is asked for.
    pub request: Value,
    /// About how many records there are.
    pub total: u64,
    /// Where it goes on.
    pub places: Vec<Place>,
}

impl Session {
    /// Writes down that the replay begins, or goes on.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn begin(
        kafka: &Kafka,
        journal: Journal,
        beginning: Beginning,
        stop: CancellationToken,
    ) -> Result<Self, ReplayError> {
        let Beginning {
            id,
            kind,
            by,
            request,
            total,
            places,
        } = beginning;
        let (_, heard, _) = journal::read_since(kafka, BTreeMap::new()).await?;
        let progress = Arc::new(Progress::new(total, stop));
        for (topic, partition, offset) in places {
            progress.reach((topic, partition), offset);
        }
        journal
            .write(&id, Step::Begun { kind, by, request })
            .await?;
        let ended = CancellationToken::new();
        let beat = beat(
            kafka.clone(),
            journal.clone(),
            id.clone(),
            Arc::clone(&progress),
            heard,
        );
        tokio::spawn(ended.clone().run_until_cancelled_owned(beat));
        Ok(Self {
            id,
            journal,
            progress,
            _beating: ended.drop_guard(),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Writes down where it stands, for whoever goes on.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn stopped(&self) -> Result<(), ReplayError> {
        self.journal.write(&self.id, self.progress.step()).await?;
        self.journal.write(&self.id, Step::Stopped).await
    }

    /// Writes down what came of it.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn ended(&self, outcome: Outcome, result: Value) -> Result<(), ReplayError> {
        self.journal.write(&self.id, self.progress.step()).await?;
        let step = Step::Ended { outcome, result };
        self.journal.write(&self.id, step).await
    }
}

/// An id for a new replay: its kind, when, and something that no other has.
pub fn new_id(kind: Kind) -> String {
    let now = std::time::UNIX_EPOCH + Duration::from_millis(clock::now().unsigned_abs());
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let time: String = time.chars().filter(char::is_ascii_digit).collect();
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{kind}-{}-{}-{}", &time[..8], &time[8..], &random[..4])
}

/// Writes signs of life, and hears when someone wants the replay to end.
async fn beat(
    kafka: Kafka,
    journal: Journal,
    id: String,
    progress: Arc<Progress>,
    mut heard: BTreeMap<i32, i64>,
) {
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(error) = journal.write(&id, progress.step()).await {
            tracing::warn!(%error, "the journal of replays takes no sign of life");
        }
        match journal::read_since(&kafka, heard.clone()).await {
            Err(error) => tracing::warn!(%error, "the journal of replays cannot be read"),
            Ok((_, next, entries)) => {
                heard = next;
                let asked = |entry: &journal::Entry| {
                    entry.replay == id && matches!(entry.step, Step::CancelAsked { .. })
                };
                if entries.iter().any(asked) {
                    progress.cancel.cancel();
                }
            }
        }
    }
}
