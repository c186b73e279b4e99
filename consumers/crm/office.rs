//! What an administrator asks of write-back: see a note, see how CRMs are doing, correct an
//! outcome, send again what was refused.

use std::collections::BTreeSet;

use pipeline::{TraceContext, clock};
use schemas::{Body, Crm, Event, EventId, Head, NoteCause, NoteRequest};

use super::book::{ConnectionState, NoteState};
use super::client::Draft;
use super::desk::Desk;

/// What would be written of a call into one CRM.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The CRM.
    pub crm: Crm,
    /// What would be written; none while the call is not over.
    pub draft: Option<Draft>,
    /// What became of it so far.
    pub state: Option<NoteState>,
}

/// How a tenant's CRM is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// The tenant.
    pub tenant: String,
    /// The CRM.
    pub crm: Crm,
    /// The connection.
    pub connection: ConnectionState,
    /// Notes by state and reason.
    pub notes: Vec<(String, Option<String>, i64)>,
}

/// What would be written of a call, into each of its tenant's CRMs.
///
/// # Errors
/// When nothing is kept of the call, or the database fails.
pub async fn preview(desk: &Desk, call: &str) -> anyhow::Result<Vec<Preview>> {
    let name = desk.tenant_of(call, None).await?;
    let tenant = desk.tenant(&name)?;
    let calls = BTreeSet::from([call]);
    let mut previews = Vec::new();
    for crm in tenant.crms() {
        let mut prepared = desk.prepare(tenant, crm, &calls).await?;
        let mut states = desk.book.notes(&name, crm, &calls).await?;
        previews.push(Preview {
            crm,
            draft: prepared.remove(call).map(|prepared| prepared.draft),
            state: states.remove(call),
        });
    }
    Ok(previews)
}

/// How every tenant's CRMs are doing.
///
/// # Errors
/// When the database fails.
pub async fn status(desk: &Desk) -> anyhow::Result<Vec<Status>> {
    let mut all = Vec::new();
    for tenant in desk.tenants.iter() {
        for crm in tenant.crms() {
            all.push(Status {
                tenant: tenant.name.clone(),
                crm,
                connection: desk.book.connection(&tenant.name, crm).await?,
                notes: desk.book.tally(&tenant.name, crm).await?,
            });
        }
    }
    Ok(all)
}

/// Corrects a call's outcome; its note is updated.
///
/// # Errors
/// When nothing is kept of the call, or Kafka refuses.
pub async fn outcome(desk: &Desk, call: &str, outcome: &str) -> anyhow::Result<()> {
    let name = desk.tenant_of(call, None).await?;
    desk.tenant(&name)?;
    ask(desk, &name, call, NoteCause::Outcome, Some(outcome)).await
}

/// Asks again for a tenant's notes that a CRM refused; gives how many.
///
/// # Errors
/// When the tenant has no CRM, or the database or Kafka fails.
pub async fn redrive(desk: &Desk, tenant: &str) -> anyhow::Result<usize> {
    let known = desk.tenant(tenant)?;
    let mut calls = BTreeSet::new();
    for crm in known.crms() {
        calls.extend(desk.book.calls_in(tenant, crm, "failed").await?);
    }
    for call in &calls {
        ask(desk, tenant, call, NoteCause::Redrive, None).await?;
    }
    Ok(calls.len())
}

async fn ask(
    desk: &Desk,
    tenant: &str,
    call: &str,
    cause: NoteCause,
    outcome: Option<&str>,
) -> anyhow::Result<()> {
    let time = clock::now();
    let event = Event {
        head: Head {
            event_id: EventId::derive("crm.requests", &format!("{call}/{cause}/{time}"), 0),
            call_id: call.to_owned(),
            tenant: tenant.to_owned(),
            time,
        },
        body: Body::Item(NoteRequest {
            cause,
            outcome: outcome.map(str::to_owned),
        }),
    };
    desk.out.send(&event, &TraceContext::start()).await?;
    Ok(())
}
