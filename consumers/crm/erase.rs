//! Takes a call's notes out of every CRM of its tenant.

use pipeline::clock;
use schemas::{Body, Crm, Event, EventId, Head, Note, NoteResult};

use super::client::key;
use super::desk::Desk;

/// What erasing did in one CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// The CRM.
    pub crm: Crm,
    /// Whether there was a note.
    pub found: bool,
}

/// Takes a call's notes out of every CRM of its tenant, and sees to it that none is written again.
/// Doing it once more does no harm; the tenant has to be given when nothing is kept of the call.
///
/// # Errors
/// When the call's tenant is not known or has no CRM, or a CRM or the database fails: nothing more
/// is written then all the same; do it again.
pub async fn erase(desk: &Desk, call: &str, tenant: Option<&str>) -> anyhow::Result<Vec<Erased>> {
    let name = desk.tenant_of(call, tenant).await?;
    let tenant = desk.tenant(&name)?;
    // First, so that a writer that is at it now takes out again what it has just written.
    desk.book.erase(&name, call).await?;
    let mut erased = Vec::new();
    for crm in tenant.crms() {
        let client = desk.client(tenant, crm).await??;
        let found = client.erase(&key(&name, call)).await?;
        erased.push(Erased { crm, found });
        if found {
            tell(desk, &name, call, crm).await?;
        }
    }
    Ok(erased)
}

async fn tell(desk: &Desk, tenant: &str, call: &str, crm: Crm) -> anyhow::Result<()> {
    let event = Event {
        head: Head {
            event_id: EventId::derive("crm.notes", &format!("{call}/{crm}/erased"), 0),
            call_id: call.to_owned(),
            tenant: tenant.to_owned(),
            time: clock::now(),
        },
        body: Body::Item(Note {
            crm,
            result: NoteResult::Erased,
            crm_id: None,
            attempts: 1,
            latency_ms: None,
            reason: None,
            until: None,
        }),
    };
    desk.out
        .send(&event, &pipeline::TraceContext::start())
        .await?;
    Ok(())
}
