//! Writes the notes that are asked for, and those that were parked once their time has come.
//!
//! Everything that leaves for a CRM goes through [`write`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use pipeline::{Effects, Envelope, Poison, Sink, StageError, clock, database};
use schemas::{
    AnyEvent, Body, Crm, Event, EventId, Head, Item, Note, NoteCause, NoteRequest, NoteResult,
    ParkedNote, Topic, topics,
};

use super::connection::{self, Delivered, Fate, Job, Lane, ms};
use super::desk::Desk;
use super::fact::{self, Fact};

/// The least that a parked note waits.
const MOMENT: Duration = Duration::from_millis(10);

/// The sink that writes the notes that are asked for.
pub struct Writer(pub(super) Arc<Desk>);

/// The sink that writes parked notes.
pub struct Parking(pub(super) Arc<Desk>);

/// A note to write, and the record that asks for it.
struct Asked<'a, T> {
    envelope: &'a Envelope<AnyEvent>,
    event: &'a Event<T>,
    job: Job,
}

/// Notes to write, by tenant and CRM, then by call.
type Grouped<'a, T> = BTreeMap<(String, Crm), BTreeMap<String, Asked<'a, T>>>;

impl Sink for Writer {
    const NAME: &'static str = "crm-writer";
    const EFFECTS: Effects = Effects::Outside;
    const TOPICS: &'static [Topic] = &[topics::CRM_REQUESTS];

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        let desk = &self.0;
        let (mut corrections, mut grouped) = (Vec::new(), Grouped::new());
        for envelope in batch {
            let AnyEvent::NoteRequest(event) = &envelope.event else {
                continue;
            };
            let Body::Item(request) = &event.body else {
                continue;
            };
            let head = &event.head;
            let Some(tenant) = desk.tenants.get(&head.tenant) else {
                continue;
            };
            if let Some(outcome) = correction(request) {
                let kept = fact::kept(head, Fact::Outcome { outcome });
                corrections.push((head.tenant.clone(), head.call_id.clone(), kept));
            }
            for crm in tenant.crms() {
                let job = Job {
                    call_id: head.call_id.clone(),
                    cause: request.cause,
                    times: 0,
                };
                let calls = grouped.entry((head.tenant.clone(), crm)).or_default();
                take(
                    calls,
                    Asked {
                        envelope,
                        event,
                        job,
                    },
                );
            }
        }
        desk.book
            .keep(&corrections)
            .await
            .map_err(database::stage_error)?;
        write::<NoteRequest>(desk, grouped, Lane::New, Self::NAME).await
    }
}

fn correction(request: &NoteRequest) -> Option<String> {
    request
        .outcome
        .clone()
        .filter(|_| request.cause == NoteCause::Outcome)
}

/// Of several requests for one call, the first counts, but one of an operator goes before all.
fn take<'a, T>(calls: &mut BTreeMap<String, Asked<'a, T>>, asked: Asked<'a, T>) {
    let cause = asked.job.cause;
    let first = calls.entry(asked.job.call_id.clone()).or_insert(asked);
    if cause == NoteCause::Redrive {
        first.job.cause = cause;
    }
}

impl Sink for Parking {
    const NAME: &'static str = "crm-parking";
    const EFFECTS: Effects = Effects::Outside;
    const TOPICS: &'static [Topic] = &[topics::CRM_PARKED];

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        let desk = &self.0;
        let parked: Vec<_> = batch.iter().filter_map(parked).collect();
        let next = parked.iter().map(|(_, _, note)| note.until).min();
        let wait = next.map_or(0, |next| next - clock::now());
        let wait = Duration::from_millis(wait.max(0).unsigned_abs());
        tokio::time::sleep(wait.min(desk.settings.look)).await;
        let now = clock::now();
        let (mut grouped, mut waiting) = (Grouped::new(), Vec::new());
        for (envelope, event, note) in parked {
            let head = &event.head;
            let tenant = desk.tenants.get(&head.tenant);
            if tenant.is_none_or(|tenant| tenant.crms().all(|crm| crm != note.crm)) {
                continue;
            }
            if note.until > now {
                waiting.push((envelope, event));
                continue;
            }
            let job = Job {
                call_id: head.call_id.clone(),
                cause: note.cause,
                times: note.times,
            };
            let calls = grouped.entry((head.tenant.clone(), note.crm)).or_default();
            take(
                calls,
                Asked {
                    envelope,
                    event,
                    job,
                },
            );
        }
        write::<ParkedNote>(desk, grouped, Lane::Parked, Self::NAME).await?;
        for (envelope, event) in waiting {
            let sent = desk.out.send(event, &envelope.trace).await;
            sent.map_err(StageError::fatal)?;
        }
        Ok(())
    }
}

fn parked(
    envelope: &Envelope<AnyEvent>,
) -> Option<(&Envelope<AnyEvent>, &Event<ParkedNote>, &ParkedNote)> {
    let AnyEvent::ParkedNote(event) = &envelope.event else {
        return None;
    };
    match &event.body {
        Body::Item(note) => Some((envelope, event, note)),
        Body::Started(_) | Body::Ended(_) => None,
    }
}

/// Writes notes to their CRMs, all CRMs side by side, and tells what became of each.
async fn write<T: Item>(
    desk: &Desk,
    grouped: Grouped<'_, T>,
    lane: Lane,
    stage: &'static str,
) -> Result<(), StageError> {
    let groups = grouped
        .into_iter()
        .map(|((tenant, crm), calls)| async move {
            let Some(tenant) = desk.tenants.get(&tenant) else {
                return Ok(());
            };
            let jobs = calls.values().map(|asked| asked.job.clone()).collect();
            let delivered = match desk.connection(tenant, crm).await? {
                Ok(connection) => connection.deliver(desk, jobs, lane).await?,
                Err(trouble) => {
                    connection::unconnected(desk, (tenant, crm), jobs, &trouble).await?
                }
            };
            for Delivered { job, fate, .. } in &delivered {
                if let Some(asked) = calls.get(&job.call_id) {
                    tell(desk, crm, asked, fate, stage).await?;
                }
            }
            connection::keep(desk, (tenant, crm), delivered).await
        });
    let ended = future::join_all(groups).await;
    ended.into_iter().collect()
}

/// Tells what became of a note: on `crm.notes`, and where it waits or lies from now on.
async fn tell<T: Item>(
    desk: &Desk,
    crm: Crm,
    asked: &Asked<'_, T>,
    fate: &Fate,
    stage: &'static str,
) -> Result<(), StageError> {
    let head = &asked.event.head;
    let now = clock::now();
    let empty = Note {
        crm,
        result: NoteResult::Parked,
        crm_id: None,
        attempts: 0,
        latency_ms: None,
        reason: None,
        until: None,
    };
    let whole = |attempts: i64| i32::try_from(attempts).unwrap_or(i32::MAX);
    let (note, tag) = match fate {
        Fate::Nothing => return Ok(()),
        Fate::Written {
            record,
            content,
            attempts,
        } => {
            let latency = (now - head.time).max(0);
            let seconds = Duration::from_millis(latency.unsigned_abs()).as_secs_f64();
            let histogram = &desk.metrics.latency;
            histogram
                .with_label_values(&[crm.as_str()])
                .observe(seconds);
            let note = Note {
                result: if record.new {
                    NoteResult::Written
                } else {
                    NoteResult::Updated
                },
                crm_id: Some(record.id.clone()),
                attempts: whole(*attempts),
                latency_ms: Some(latency),
                ..empty
            };
            (note, content.clone())
        }
        Fate::Failed {
            code,
            words,
            attempts,
        } => {
            let poison = Poison::new(code.clone(), words);
            let buried = desk
                .out
                .bury(asked.event, asked.envelope, stage, &poison)
                .await;
            buried.map_err(StageError::fatal)?;
            let note = Note {
                result: NoteResult::Failed,
                attempts: whole(*attempts),
                reason: Some(code.clone()),
                ..empty
            };
            (note, code.clone())
        }
        Fate::Parked {
            reason,
            until,
            attempts,
        } => {
            park(desk, crm, asked, reason, *until).await?;
            if asked.job.times > 0 {
                return Ok(());
            }
            let note = Note {
                attempts: whole(*attempts),
                reason: Some(reason.clone()),
                until: Some(*until),
                ..empty
            };
            (note, reason.clone())
        }
    };
    let counter = &desk.metrics.notes;
    counter
        .with_label_values(&[crm.as_str(), note.result.as_str()])
        .inc();
    let origin = format!("{}/{crm}/{tag}", head.event_id);
    let event = Event {
        head: Head {
            event_id: EventId::derive("crm.notes", &origin, 0),
            time: now,
            ..head.clone()
        },
        body: Body::Item(note),
    };
    let sent = desk.out.send(&event, &asked.envelope.trace.next()).await;
    sent.map(|_| ()).map_err(StageError::fatal)
}

/// Has a note wait on `crm.parked`.
async fn park<T: Item>(
    desk: &Desk,
    crm: Crm,
    asked: &Asked<'_, T>,
    reason: &str,
    until: i64,
) -> Result<(), StageError> {
    let head = &asked.event.head;
    let times = asked.job.times.saturating_add(1);
    let event = Event {
        head: Head {
            event_id: EventId::derive("crm.parked", &format!("{}/{crm}", head.event_id), 0),
            ..head.clone()
        },
        body: Body::Item(ParkedNote {
            crm,
            cause: asked.job.cause,
            reason: reason.to_owned(),
            until: until.max(clock::now() + ms(MOMENT)),
            times,
        }),
    };
    let sent = desk.out.send(&event, &asked.envelope.trace).await;
    sent.map(|_| ()).map_err(StageError::fatal)
}
