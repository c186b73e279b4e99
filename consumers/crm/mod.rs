//! CRM write-back: every call's note in the tenant's Salesforce or HubSpot, once.
//!
//! ```text
//! calls.transcript, calls.insights, coaching.tips, coaching.feedback
//!    └▶ gather ─▶ facts (database) ─▶ crm.requests ─▶ writer ─▶ CRM ─▶ crm.notes
//!                                                       │ ▲
//!                                            crm.parked ▼ │ parking
//! ```
//!
//! What a note says is a function of the call's facts ([`note`]); sending it is the effect
//! ([`writer`]).

pub mod book;
mod breaker;
pub mod client;
mod connection;
mod delivery;
pub mod desk;
mod erase;
mod fact;
mod gather;
pub mod mapping;
mod metrics;
pub mod note;
mod office;
mod pace;
pub mod tenant;
#[cfg(test)]
mod tests;
mod words;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipeline::config::duration;
use pipeline::{Section, Sink, sink};
use schemas::{Topic, topics};
use serde::{Deserialize, Serialize};

pub use erase::{Erased, erase};
pub use office::{Preview, Status, outcome, preview, redrive, status};

use crate::registry::Process;
use desk::Desk;
use tenant::Tenants;

/// The sinks of write-back beside the one that gives it its name.
pub const SINKS: &[&str] = &[writer::Writer::NAME, writer::Parking::NAME];

/// What write-back reads.
pub const TOPICS: &[Topic] = &[
    topics::CALLS_TRANSCRIPT,
    topics::CALLS_INSIGHTS,
    topics::COACHING_TIPS,
    topics::COACHING_FEEDBACK,
    topics::CRM_REQUESTS,
    topics::CRM_PARKED,
];

/// Section `crm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folder with a YAML file for each tenant that has a CRM, named after it. Without one no
    /// note is written.
    pub tenants: Option<PathBuf>,
    /// How long new notes are tried before those of a CRM in trouble are parked.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// How long an answer may take.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// First wait of a note parked because its CRM is in trouble; it doubles, up to ten minutes.
    #[serde(with = "duration")]
    pub retry: Duration,
    /// How long notes wait whose CRM says that the day's calls are used up, and not until when.
    #[serde(with = "duration")]
    pub daily: Duration,
    /// How long notes wait whose CRM does not let us in.
    #[serde(with = "duration")]
    pub shut: Duration,
    /// How often parked notes are looked at, at least.
    #[serde(with = "duration")]
    pub look: Duration,
    /// How long a call's facts are kept: so long a later event updates its note.
    #[serde(with = "duration")]
    pub keep: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenants: None,
            patience: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            retry: Duration::from_secs(10),
            daily: Duration::from_secs(60 * 60),
            shut: Duration::from_secs(5 * 60),
            look: Duration::from_secs(30),
            keep: Duration::from_secs(30 * 24 * 60 * 60),
        }
    }
}

impl Section for Settings {
    const NAME: &'static str = "crm";

    fn problems(&self) -> Vec<String> {
        let loaded = Tenants::load(self.tenants.as_deref());
        let errors = loaded.err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }
}

impl Settings {
    /// The tenants that have a CRM.
    ///
    /// # Errors
    /// Every file that is wrong.
    pub fn load(&self) -> anyhow::Result<Tenants> {
        Tenants::load(self.tenants.as_deref()).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })
    }
}

/// Runs write-back until the process is shut down. Without a tenant that has a CRM it only waits.
///
/// # Errors
/// When a tenant's file is wrong, or one of the sinks breaks.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let part = process.deps.health.part(Settings::NAME);
    let settings: Settings = process.config.section(Settings::NAME)?;
    if settings.load()?.is_empty() {
        tracing::info!("no tenant has a CRM: no notes are written");
        part.ready(true);
        process.shutdown.cancelled().await;
        return Ok(());
    }
    let desk = Arc::new(Desk::open(settings, &process.kafka, &process.deps).await?);
    sinks(desk, &process).await
}

/// Runs the sinks of write-back.
async fn sinks(desk: Arc<Desk>, process: &Process) -> anyhow::Result<()> {
    let Process {
        kafka,
        runner,
        deps,
        shutdown,
        ..
    } = process;
    let gather = gather::Gather(Arc::clone(&desk));
    let writer = writer::Writer(Arc::clone(&desk));
    let parking = writer::Parking(Arc::clone(&desk));
    let housekeeping = async {
        shutdown.run_until_cancelled(desk.housekeeping()).await;
        Ok(())
    };
    tokio::try_join!(
        sink::run(gather, kafka, runner, deps, shutdown.clone()),
        sink::run(writer, kafka, runner, deps, shutdown.clone()),
        sink::run(parking, kafka, runner, deps, shutdown.clone()),
        housekeeping,
    )?;
    Ok(())
}
