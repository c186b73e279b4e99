//! One tenant's CRM, and how notes get there: in batches, within its limits, each until it is
//! written, refused for good, or parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipeline::{StageError, clock, database};
use schemas::{Crm, NoteCause};
use tokio::time::Instant;

use super::Settings;
use super::book::NoteState;
use super::breaker::Breaker;
use super::client::{Client, Record, Trouble};
use super::delivery::Delivery;
use super::desk::{Desk, Prepared};
use super::tenant::Tenant;
use crate::masking;

/// How often a note is written anew at once because its call told more meanwhile.
const ROUNDS: usize = 3;

/// Which sink sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Requests as they come: nobody waits long here for a CRM that is in trouble.
    New,
    /// Notes that were parked.
    Parked,
}

/// A note to write.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub call_id: String,
    pub cause: NoteCause,
    /// How often it was parked in a row.
    pub times: i32,
}

/// What became of a note, and what the book is to keep of it.
pub(super) struct Delivered {
    pub job: Job,
    pub fate: Fate,
    pub state: Option<NoteState>,
}

/// What became of a note.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// Nothing to write: the CRM has it, or the call is not over, or erased.
    Nothing,
    /// The CRM has it.
    Written {
        record: Record,
        content: String,
        attempts: i64,
    },
    /// The CRM refused it for good. The words are masked.
    Failed {
        code: String,
        words: String,
        attempts: i64,
    },
    /// It waits.
    Parked {
        reason: String,
        until: i64,
        attempts: i64,
    },
}

/// One tenant's CRM.
pub struct Connection {
    pub(super) tenant: Arc<Tenant>,
    pub(super) crm: Crm,
    pub(super) client: Client,
    pub(super) breaker: Breaker,
    /// API calls that the book knows of.
    reported: AtomicU64,
}

/// A note on its way.
pub(super) struct Item {
    pub job: Job,
    pub prepared: Prepared,
    /// What is known of it from before.
    pub before: NoteState,
    pub attempts: i64,
}

/// Why the rest of the notes must wait, and until when.
pub(super) struct Stop {
    pub reason: String,
    pub until: i64,
}

impl Connection {
    pub(super) fn new(tenant: Arc<Tenant>, crm: Crm, client: Client, settings: &Settings) -> Self {
        Self {
            tenant,
            crm,
            client,
            breaker: Breaker::new(settings.retry),
            reported: AtomicU64::new(0),
        }
    }

    /// Writes notes of calls that all differ. What became of them is for the caller to tell, and
    /// then to keep: a note that was told of and not kept is written and told of again.
    ///
    /// # Errors
    /// When the database or the key store fails: send all of them again.
    pub(super) async fn deliver(
        &self,
        desk: &Desk,
        jobs: Vec<Job>,
        lane: Lane,
    ) -> Result<Vec<Delivered>, StageError> {
        let mut delivered = Vec::new();
        let mut jobs = jobs;
        for _ in 0..ROUNDS {
            jobs = self.round(desk, jobs, lane, &mut delivered).await?;
            if jobs.is_empty() {
                break;
            }
        }
        let until = clock::now() + ms(desk.settings.retry);
        for job in jobs {
            let reason = "changing".to_owned();
            let fate = Fate::Parked {
                reason,
                until,
                attempts: 0,
            };
            let state = None;
            delivered.push(Delivered { job, fate, state });
        }
        self.report(desk).await?;
        Ok(delivered)
    }

    /// Writes notes once; gives those whose calls told more meanwhile.
    async fn round(
        &self,
        desk: &Desk,
        jobs: Vec<Job>,
        lane: Lane,
        delivered: &mut Vec<Delivered>,
    ) -> Result<Vec<Job>, StageError> {
        let calls: BTreeSet<&str> = jobs.iter().map(|job| job.call_id.as_str()).collect();
        let mut prepared = desk.prepare(&self.tenant, self.crm, &calls).await?;
        let name = self.tenant.name.as_str();
        let known = desk.book.notes(name, self.crm, &calls).await;
        let mut known = known.map_err(database::stage_error)?;
        let mut items = Vec::new();
        for job in jobs {
            let before = known.remove(&job.call_id).unwrap_or_default();
            match prepared.remove(&job.call_id) {
                Some(prepared) if job.must(&before, &prepared.content) => items.push(Item {
                    attempts: before.attempts,
                    job,
                    prepared,
                    before,
                }),
                _ => delivered.push(Delivered {
                    job,
                    fate: Fate::Nothing,
                    state: None,
                }),
            }
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let done = self.send(desk, items, lane).await?;
        self.settle(desk, done, delivered).await
    }

    /// Sends what may be sent now.
    async fn send(
        &self,
        desk: &Desk,
        items: Vec<Item>,
        lane: Lane,
    ) -> Result<Vec<(Item, Fate)>, StageError> {
        let patience = match lane {
            Lane::New => desk.settings.patience,
            Lane::Parked => desk.settings.patience * 4,
        };
        let (stop, stopped) = self.stopped(desk, lane).await?;
        let done = Delivery::new(desk, self, items, patience).run(stop).await?;
        let answered = |(_, fate): &(Item, Fate)| !matches!(fate, Fate::Parked { .. });
        if stopped && done.iter().any(answered) {
            stop_sending(desk, &self.tenant, self.crm, None).await?;
        }
        Ok(done)
    }

    /// Why nothing may be sent now, if so; and whether something stopped it before, which the next
    /// answer may show to be over.
    async fn stopped(&self, desk: &Desk, lane: Lane) -> Result<(Option<Stop>, bool), StageError> {
        let state = desk.book.connection(&self.tenant.name, self.crm).await;
        let state = state.map_err(database::stage_error)?;
        let stopped = state.reason.is_some();
        let now = clock::now();
        if state.until > now {
            let stop = Stop {
                reason: state.reason.unwrap_or_default(),
                until: state.until,
            };
            return Ok((Some(stop), stopped));
        }
        let Some(open) = self.breaker.open(Instant::now()) else {
            return Ok((None, stopped));
        };
        // Only parked notes try out whether a CRM that was down answers again.
        let trial = lane == Lane::Parked && open.is_zero();
        let stop = (!trial).then(|| Stop {
            reason: "down".to_owned(),
            until: now + ms(open),
        });
        Ok((stop, stopped))
    }

    /// Gives the notes whose calls told more meanwhile. What was erased meanwhile is taken out
    /// again.
    async fn settle(
        &self,
        desk: &Desk,
        done: Vec<(Item, Fate)>,
        delivered: &mut Vec<Delivered>,
    ) -> Result<Vec<Job>, StageError> {
        let name = self.tenant.name.as_str();
        let calls = done
            .iter()
            .map(|(item, _)| item.job.call_id.as_str())
            .collect();
        let counts = desk
            .book
            .counts(&calls)
            .await
            .map_err(database::stage_error)?;
        let erased = desk
            .book
            .erased(&calls)
            .await
            .map_err(database::stage_error)?;
        let mut again = Vec::new();
        for (item, fate) in done {
            let call = item.job.call_id.as_str();
            let written = matches!(fate, Fate::Written { .. });
            if written && erased.contains(&(name.to_owned(), call.to_owned())) {
                let taken_out = self.client.erase(&item.prepared.draft.key).await;
                taken_out.map_err(StageError::transient)?;
                delivered.push(Delivered {
                    job: item.job,
                    fate: Fate::Nothing,
                    state: None,
                });
                continue;
            }
            let grown = counts
                .get(call)
                .is_some_and(|count| *count > item.prepared.facts);
            if written && grown {
                again.push(Job {
                    // It was asked for once.
                    cause: NoteCause::Ended,
                    ..item.job.clone()
                });
            }
            let state = state(&item.before, &fate);
            let job = item.job;
            delivered.push(Delivered { job, fate, state });
        }
        Ok(again)
    }

    async fn report(&self, desk: &Desk) -> Result<(), StageError> {
        let usage = self.client.line().usage();
        let before = self.reported.swap(usage.calls, Ordering::Relaxed);
        let more = usage.calls.saturating_sub(before);
        if more == 0 {
            return Ok(());
        }
        let kept = desk
            .book
            .used(&self.tenant.name, self.crm, usage, more)
            .await;
        kept.map_err(database::stage_error)
    }
}

impl Job {
    /// Whether there is something to send: an operator asked for it, or the CRM has not just this.
    fn must(&self, before: &NoteState, content: &str) -> bool {
        let has = before.state == "written" && before.content.as_deref() == Some(content);
        self.cause == NoteCause::Redrive || !has
    }
}

/// Parks notes for a CRM that cannot be connected to.
///
/// # Errors
/// When the database fails.
pub(super) async fn unconnected(
    desk: &Desk,
    (tenant, crm): (&Tenant, Crm),
    jobs: Vec<Job>,
    trouble: &Trouble,
) -> Result<Vec<Delivered>, StageError> {
    let stop = Stop {
        reason: "shut".to_owned(),
        until: clock::now() + ms(desk.settings.shut),
    };
    let words = trouble.to_string();
    stop_sending(desk, tenant, crm, Some((&stop, &words))).await?;
    let calls = jobs.iter().map(|job| job.call_id.as_str()).collect();
    let known = desk.book.notes(&tenant.name, crm, &calls).await;
    let known = known.map_err(database::stage_error)?;
    let parked = jobs.into_iter().map(|job| {
        let before = known.get(&job.call_id).cloned().unwrap_or_default();
        let fate = Fate::Parked {
            reason: stop.reason.clone(),
            until: stop.until,
            attempts: before.attempts,
        };
        let state = state(&before, &fate);
        Delivered { job, fate, state }
    });
    Ok(parked.collect())
}

/// Keeps what became of notes; of several fates of one, the last.
///
/// # Errors
/// When the database fails.
pub(super) async fn keep(
    desk: &Desk,
    (tenant, crm): (&Tenant, Crm),
    delivered: Vec<Delivered>,
) -> Result<(), StageError> {
    let states = delivered.into_iter();
    let states: BTreeMap<String, NoteState> = states
        .filter_map(|delivered| Some((delivered.job.call_id, delivered.state?)))
        .collect();
    let kept = desk.book.set_notes(&tenant.name, crm, states).await;
    kept.map_err(database::stage_error)
}

/// Stops sending to a tenant's CRM for a reason, with the CRM's own words, or goes on.
pub(super) async fn stop_sending(
    desk: &Desk,
    tenant: &Tenant,
    crm: Crm,
    stop: Option<(&Stop, &str)>,
) -> Result<(), StageError> {
    let name = tenant.name.as_str();
    for reason in ["daily", "shut"] {
        let stopped = stop.is_some_and(|(stop, _)| stop.reason == reason);
        let gauge = &desk.metrics.stopped;
        gauge
            .with_label_values(&[name, crm.as_str(), reason])
            .set(stopped.into());
    }
    let words = stop.map(|(_, words)| masking::mask(words, tenant.language).into_owned());
    let told = stop.zip(words.as_deref());
    let told = told.map(|((stop, _), words)| (stop.reason.as_str(), words, stop.until));
    if let Some((reason, words, until)) = told {
        tracing::warn!(tenant = name, %crm, reason, words, until, "nothing is sent to this CRM");
    }
    let kept = desk.book.stop_until(name, crm, told).await;
    kept.map_err(database::stage_error)
}

/// What the book keeps of a note's fate.
fn state(before: &NoteState, fate: &Fate) -> Option<NoteState> {
    Some(match fate {
        Fate::Nothing => return None,
        Fate::Written {
            record,
            content,
            attempts,
        } => NoteState {
            state: "written".to_owned(),
            content: Some(content.clone()),
            crm_id: Some(record.id.clone()),
            attempts: *attempts,
            reason: None,
            detail: None,
        },
        Fate::Failed {
            code,
            words,
            attempts,
        } => NoteState {
            state: "failed".to_owned(),
            attempts: *attempts,
            reason: Some(code.clone()),
            detail: Some(words.clone()),
            ..before.clone()
        },
        Fate::Parked {
            reason, attempts, ..
        } => NoteState {
            state: "parked".to_owned(),
            attempts: *attempts,
            reason: Some(reason.clone()),
            detail: None,
            ..before.clone()
        },
    })
}

/// In milliseconds.
pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
