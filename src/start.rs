//! What most commands start with: the configuration, Kafka, the database, keys.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use pipeline::config::Config;
use pipeline::database::{self, DatabaseSettings};
use pipeline::deps::SchemaSource;
use pipeline::producer::Producer;
use pipeline::registry::{RegistrySettings, SchemaRegistry};
use pipeline::runner;
use pipeline::seal::{DatabaseKeys, SealSettings};
use pipeline::telemetry::{self, Health, TelemetrySettings};
use pipeline::{Deps, Kafka, Sealer};
use schemas::Codec;

/// Reads the configuration and checks every section of it.
///
/// # Errors
/// Every error of the configuration at once.
pub fn config(path: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(path, std::env::vars())?;
    config.check(&crate::config::sections())?;
    Ok(config)
}

/// Sends log lines to standard error, as `[telemetry]` says.
///
/// # Errors
/// When it is called twice.
pub fn log(config: &Config) -> anyhow::Result<()> {
    let settings: TelemetrySettings = config.section("telemetry")?;
    Ok(telemetry::log(&settings)?)
}

/// Sends log lines to a file, for commands that have the terminal for themselves.
///
/// # Errors
/// When the file cannot be written.
pub fn log_to(config: &Config, file: &Path) -> anyhow::Result<()> {
    let settings: TelemetrySettings = config.section("telemetry")?;
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(file);
    let file = file.context("cannot write the log")?;
    Ok(telemetry::log_to(&settings, file)?)
}

/// The section `[kafka]`.
///
/// # Errors
/// Its errors.
pub fn kafka(config: &Config) -> anyhow::Result<Kafka> {
    Ok(config.section("kafka")?)
}

/// The section `[runner]`.
///
/// # Errors
/// Its errors.
pub fn runner(config: &Config) -> anyhow::Result<runner::Settings> {
    Ok(config.section("runner")?)
}

/// The codec, and the schema registry whose ids it writes when one is configured; waits while the
/// registry is away.
///
/// # Errors
/// When the registry refuses us or the schemas.
pub async fn codec(config: &Config) -> anyhow::Result<(Arc<Codec>, Option<Arc<dyn SchemaSource>>)> {
    let codec = Arc::new(Codec::new()?);
    let settings: RegistrySettings = config.section("registry")?;
    let Some(registry) = SchemaRegistry::open(&settings)? else {
        return Ok((codec, None));
    };
    registry.assign_all(&codec, &kafka(config)?.prefix).await?;
    Ok((codec, Some(Arc::new(registry))))
}

/// Seals with the configured master key and the database's data keys; waits while the database is
/// away.
///
/// # Errors
/// When there is no master key, or it is none or another than the database was filled with, or the
/// database refuses us for good.
pub async fn sealer(config: &Config) -> anyhow::Result<(Sealer, sqlx::AnyPool)> {
    let settings: SealSettings = config.section("seal")?;
    let (master_key, lifetime) = (settings.master_key()?, settings.key_lifetime());
    let settings: DatabaseSettings = config.section("database")?;
    let pool = database::connect(&settings).await?;
    let keys = DatabaseKeys::open(pool.clone()).await?;
    let sealer = Sealer::new(master_key, keys).keeping(lifetime);
    sealer.check().await?;
    Ok((sealer, pool))
}

/// Everything a stage may use.
///
/// # Errors
/// As the parts above.
pub async fn deps(config: &Config) -> anyhow::Result<Deps> {
    let (codec, registry) = codec(config).await?;
    let (sealer, database) = sealer(config).await?;
    Ok(Deps {
        codec,
        registry,
        sealer,
        cache: config.cache()?,
        health: Health::default(),
        metrics: telemetry::metrics()?,
        database,
    })
}

/// What a producer of calls needs.
///
/// # Errors
/// As the parts above.
pub async fn producer(config: &Config) -> anyhow::Result<(Producer, Sealer)> {
    let kafka = kafka(config)?;
    let (sealer, _) = sealer(config).await?;
    kafka.wait_until_reachable().await?;
    let producer = Producer::new(&kafka, codec(config).await?.0)?;
    Ok((producer, sealer))
}
