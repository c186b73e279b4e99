//! `coach crm`: what an administrator of CRM write-back asks.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use consumers::crm::desk::Desk;
use consumers::crm::{self, Settings};
use pipeline::{Section, clock};
use schemas::Crm;

use crate::start;

/// Characters of a corrected outcome at most.
const OUTCOME: usize = 60;

/// Notes of calls in the tenants' CRMs: credentials, what would be written, how it goes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Try the credentials and compare the mapping with the CRM; says what to create there
    Check {
        /// Only this tenant
        tenant: Option<String>,
    },
    /// Print what would be written of a call
    Preview {
        /// The call's id
        call: String,
    },
    /// Print how every tenant's CRM is doing: what is written, parked, refused
    Status,
    /// Keep what a CRM lets us in with, sealed; it is read from standard input
    Secret {
        /// The tenant
        tenant: String,
        /// hubspot or salesforce
        crm: Crm,
    },
    /// Correct a call's outcome; its note is updated
    Outcome {
        /// The call's id
        call: String,
        /// The outcome: nothing personal
        #[arg(value_parser = outcome)]
        outcome: String,
    },
    /// Ask again for a tenant's notes that the CRM refused
    Redrive {
        /// The tenant
        tenant: String,
    },
    /// Take a call's notes out of the CRMs, and never write one again
    Erase {
        /// The call's id
        call: String,
        /// The call's tenant, when nothing is kept of the call any more
        #[arg(long)]
        tenant: Option<String>,
    },
}

fn outcome(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || " -_/".contains(c);
    if text.is_empty() || text.chars().count() > OUTCOME || !text.chars().all(fits) {
        return Err(format!(
            "expected up to {OUTCOME} letters, digits, spaces, - or /"
        ));
    }
    Ok(text.to_owned())
}

/// Runs one of the subcommands.
///
/// # Errors
/// When the configuration, the database, Kafka or a CRM refuses.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = start::config(path)?;
    start::log(&config)?;
    let settings: Settings = config.section(Settings::NAME)?;
    if settings.load()?.is_empty() {
        anyhow::bail!(
            "no tenant has a CRM: set [crm] tenants to a folder with a file for each, such as \
             acme.yaml (docs/crm.md)"
        );
    }
    let deps = start::deps(&config).await?;
    let desk = Desk::open(settings, &start::kafka(&config)?, &deps).await?;
    match args.command {
        Command::Check { tenant } => check(&desk, tenant.as_deref()).await,
        Command::Preview { call } => preview(&desk, &call).await,
        Command::Status => status(&desk).await,
        Command::Secret { tenant, crm } => secret(&desk, &tenant, crm).await,
        Command::Outcome { call, outcome } => {
            crm::outcome(&desk, &call, &outcome).await?;
            println!("the note of call {call} is asked for with outcome {outcome:?}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Redrive { tenant } => {
            let count = crm::redrive(&desk, &tenant).await?;
            println!("{count} notes are asked for again");
            Ok(ExitCode::SUCCESS)
        }
        Command::Erase { call, tenant } => erase(&desk, &call, tenant.as_deref()).await,
    }
}

async fn check(desk: &Desk, only: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Some(only) = only {
        desk.tenant(only)?;
    }
    let mut wrong = false;
    let tenants = desk.tenants().iter();
    for tenant in tenants.filter(|tenant| only.is_none_or(|only| only == tenant.name)) {
        for crm in tenant.crms() {
            println!("{} {crm}", tenant.name);
            let findings = match desk.client(tenant, crm).await? {
                Ok(client) => client.check().await,
                Err(trouble) => vec![crm::client::Finding::wrong(trouble.to_string())],
            };
            for finding in findings {
                let mark = if finding.wrong { "✗" } else { "✓" };
                println!("  {mark} {}", finding.text);
                wrong |= finding.wrong;
            }
        }
    }
    Ok(if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn preview(desk: &Desk, call: &str) -> anyhow::Result<ExitCode> {
    for preview in crm::preview(desk, call).await? {
        let state = preview.state.unwrap_or_default();
        let state = match (state.state.as_str(), state.reason) {
            ("", _) => "not written yet".to_owned(),
            (state, Some(reason)) => format!("{state}: {reason}"),
            (state, None) => state.to_owned(),
        };
        println!("{} ({state})", preview.crm);
        let Some(draft) = preview.draft else {
            println!("  nothing: the call is not over, or began before the tenant's since");
            continue;
        };
        println!("  key = {}", draft.key);
        for (field, value) in draft.fields.iter().chain(&draft.task) {
            println!("  {field} = {value}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(desk: &Desk) -> anyhow::Result<ExitCode> {
    let now = clock::now();
    for status in crm::status(desk).await? {
        println!("{} {}", status.tenant, status.crm);
        let connection = status.connection;
        match connection.reason {
            Some(reason) if connection.until > now => {
                let detail = connection.detail.unwrap_or_default();
                println!(
                    "  stopped until {}: {reason} {detail}",
                    time(connection.until)
                );
            }
            _ => println!("  sending"),
        }
        let daily = match (connection.daily_used, connection.daily_max) {
            (Some(used), Some(most)) => format!(", {used} of the day's {most} used"),
            _ => String::new(),
        };
        println!("  {} API calls{daily}", connection.calls);
        for (state, reason, count) in status.notes {
            let reason = reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            println!("  {count:>7} {state}{reason}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn secret(desk: &Desk, tenant: &str, crm: Crm) -> anyhow::Result<ExitCode> {
    let known = desk.tenant(tenant)?;
    if known.crms().all(|own| own != crm) {
        anyhow::bail!("tenant {tenant} has no {crm} in its file");
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut secret = String::new();
        std::io::stdin().read_to_string(&mut secret).map(|_| secret)
    });
    let secret = read
        .await?
        .context("cannot read the secret from standard input")?;
    if secret.trim().is_empty() {
        anyhow::bail!("standard input holds no secret");
    }
    desk.set_secret(tenant, crm, secret.trim()).await?;
    println!(
        "the secret of {tenant}'s {crm} is kept, sealed; try it with coach crm check {tenant}"
    );
    Ok(ExitCode::SUCCESS)
}

async fn erase(desk: &Desk, call: &str, tenant: Option<&str>) -> anyhow::Result<ExitCode> {
    for erased in crm::erase(desk, call, tenant).await? {
        let what = if erased.found {
            "taken out"
        } else {
            "there was no note"
        };
        println!("{}: {what}", erased.crm);
    }
    Ok(ExitCode::SUCCESS)
}

fn time(ms: i64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(ms.max(0).unsigned_abs());
    humantime::format_rfc3339_seconds(time).to_string()
}
