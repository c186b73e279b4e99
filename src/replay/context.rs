//! What every replay works with, and how each of them ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pipeline::config::Config;
use pipeline::replay::journal::{self, Journal, Outcome};
use pipeline::replay::session::{Beginning, Progress, Session};
use pipeline::replay::{Kind, ReplayError};
use pipeline::{Decoder, Delivery, Kafka, runner};
use schemas::Codec;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Options, Run};
use crate::start;

/// Longest wait for brokers that do not answer: whoever sits before it wants to know.
const REACH_WITHIN: Duration = Duration::from_secs(30);

/// What every replay works with.
pub struct Context {
    pub config: Config,
    pub kafka: Kafka,
    pub runner: runner::Settings,
    pub codec: Arc<Codec>,
    pub decoder: Decoder,
    /// Cancelled by Ctrl-C.
    pub stop: CancellationToken,
}

impl Context {
    /// Reads the configuration and reaches Kafka.
    ///
    /// # Errors
    /// When one of them cannot be.
    pub async fn open(path: Option<&Path>, stop: CancellationToken) -> anyhow::Result<Self> {
        let config = start::config(path)?;
        start::log(&config)?;
        let kafka = start::kafka(&config)?;
        if kafka.delivery == Delivery::AtLeastOnce {
            anyhow::bail!(
                "a broker without transactions ([kafka] delivery) keeps nothing to replay"
            );
        }
        let reached = tokio::time::timeout(REACH_WITHIN, kafka.wait_until_reachable()).await;
        reached.with_context(|| {
            format!(
                "no broker of {} answers ([kafka] bootstrap)",
                kafka.bootstrap
            )
        })??;
        let (codec, registry) = start::codec(&config).await?;
        Ok(Self {
            runner: start::runner(&config)?,
            decoder: Decoder::new(Arc::clone(&codec), registry),
            config,
            kafka,
            codec,
            stop,
        })
    }

    /// Progress of something that is no replay yet.
    pub fn progress(&self, total: u64) -> Arc<Progress> {
        Arc::new(Progress::new(total, self.stop.clone()))
    }

    /// Writes into the journal that a replay begins or goes on.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub async fn begin(&self, run: &Run, total: u64) -> anyhow::Result<Session> {
        let journal = Journal::open(&self.kafka, Arc::clone(&self.codec)).await?;
        let beginning = Beginning {
            id: run.id.clone(),
            kind: run.request.what.kind(),
            by: who(),
            request: serde_json::to_value(&run.request)?,
            total,
            places: run.places.clone(),
        };
        let session = Session::begin(&self.kafka, journal, beginning, self.stop.clone()).await?;
        eprintln!("coach: this is replay {}", session.id);
        Ok(session)
    }

    /// How fast a replay of this kind goes, in records a second, and how that is known.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn speed(&self, kind: Kind) -> anyhow::Result<(f64, &'static str)> {
        let history = journal::read(&self.kafka).await?;
        let mut replays = history.replays.iter().rev().filter(|it| it.kind == kind);
        let measured = replays.find_map(|replay| {
            let (outcome, result) = replay.ended.as_ref()?;
            let (records, seconds) = (result["records"].as_f64()?, result["seconds"].as_f64()?);
            let enough = *outcome == Outcome::Finished && records >= 1_000.0 && seconds > 0.0;
            enough.then(|| records / seconds)
        });
        Ok(match measured {
            Some(speed) => (speed, "as the last one went here"),
            None => (
                guess(kind),
                "a guess: none of 1,000 records or more has run here yet",
            ),
        })
    }

    /// Says how long so many records will take.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn say_time(
        &self,
        kind: Kind,
        records: u64,
        options: &Options,
    ) -> anyhow::Result<()> {
        let (speed, known) = self.speed(kind).await?;
        let held = options.rate.map(f64::from).filter(|rate| *rate < speed);
        let (speed, known) = held.map_or((speed, known), |rate| (rate, "held by --rate"));
        let seconds = (records as f64 / speed).ceil().max(1.0);
        let time = humantime::format_duration(Duration::from_secs(seconds as u64));
        println!("time      about {time} at {speed:.0} records a second ({known})");
        Ok(())
    }
}

/// Speeds as measured with two cores (docs/figures.md), for want of better.
fn guess(kind: Kind) -> f64 {
    match kind {
        Kind::Rebuild => 4_000.0,
        Kind::Redrive => 2_000.0,
        Kind::Shadow => 300.0,
    }
}

/// Who runs this: user and machine.
pub fn who() -> String {
    let named = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(named);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "{}@{}",
        user.as_deref().unwrap_or("unknown"),
        Some(host.trim())
            .filter(|host| !host.is_empty())
            .unwrap_or("unknown")
    )
}

/// Writes down how a replay ended, and says it.
///
/// # Errors
/// What ended it, if that was no stop; or when the journal cannot be written.
pub async fn conclude(session: &Session, done: anyhow::Result<Value>) -> anyhow::Result<ExitCode> {
    let id = &session.id;
    let error = match done {
        Ok(result) => {
            session.ended(Outcome::Finished, result).await?;
            eprintln!("coach: replay {id} has finished");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    match error.downcast_ref::<ReplayError>() {
        Some(ReplayError::Stopped) => {
            session.stopped().await?;
            eprintln!(
                "coach: stopped; nothing is half done. Go on: coach replay resume {id}. \
                 End it: coach replay cancel {id}"
            );
            Ok(ExitCode::from(130))
        }
        Some(ReplayError::Cancelled) => {
            session.ended(Outcome::Cancelled, Value::Null).await?;
            eprintln!("coach: replay {id} was cancelled");
            Ok(ExitCode::FAILURE)
        }
        _ => {
            let result = serde_json::json!({ "error": format!("{error:#}") });
            session.ended(Outcome::Failed, result).await?;
            Err(error.context(format!(
                "replay {id} failed; once the cause is mended: coach replay resume {id}"
            )))
        }
    }
}

/// The topics with how many records each, as lines.
pub fn by_topic(counts: &BTreeMap<String, pipeline::replay::plan::Count>) {
    for (topic, count) in counts {
        let unreadable = match count.unreadable {
            0 => String::new(),
            some => format!(", {some} of them unreadable"),
        };
        println!("          {topic}: {} records{unreadable}", count.records);
    }
}

/// Bytes in words.
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
