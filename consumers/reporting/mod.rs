//! Keeps every event in the database, and the ledger of which calls are complete.

mod batch;
pub mod rebuild;
mod stretches;
mod summary;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use pipeline::database::{self, DatabaseError, Dialect};
use pipeline::{Deps, Effects, Envelope, OpenSink, Sink, StageError};
use schemas::{AnyEvent, Topic, topics};
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row, Transaction};

use batch::Batch;
use stretches::Stretches;
pub use summary::{Summary, summary};
use table::{AUDIO, LOCK};

/// Section `reporting`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A call that has not ended counts as timed out once other calls' events are so much
    /// younger than its last, in seconds.
    pub timeout_s: u32,
}

impl Default for Settings {
    fn default() -> Self {
        // As long as the runner remembers a silent call ([runner] call_timeout_s).
        Self {
            timeout_s: 4 * 60 * 60,
        }
    }
}

/// The sink of every topic.
pub struct Reporting {
    pool: AnyPool,
}

impl Sink for Reporting {
    const NAME: &'static str = "reporting";
    const EFFECTS: Effects = Effects::Rows;
    const TOPICS: &'static [Topic] = topics::ALL;

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        let batch = Batch::of(batch);
        self.write_batch(batch).await.map_err(database::stage_error)
    }
}

impl OpenSink for Reporting {
    type Settings = Settings;

    async fn open(settings: Settings, deps: &Deps) -> anyhow::Result<Self> {
        Ok(Self::connect(settings, deps.database.clone()).await?)
    }
}

impl Reporting {
    /// The sink on that database, its tables up to date.
    ///
    /// # Errors
    /// When the tables cannot be made.
    pub async fn connect(settings: Settings, pool: AnyPool) -> Result<Self, DatabaseError> {
        let migrations = sqlx::migrate!("./reporting/migrations");
        database::migrate(&pool, Self::NAME, migrations).await?;
        sqlx::query(
            "INSERT INTO ledger_rules (id, timeout_ms) VALUES (1, $1) \
             ON CONFLICT (id) DO UPDATE SET timeout_ms = excluded.timeout_ms",
        )
        .bind(i64::from(settings.timeout_s) * 1000)
        .execute(&pool)
        .await?;
        Ok(Self { pool })
    }

    async fn write_batch(&self, batch: Batch) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let written = write(&mut connection, database::dialect(&self.pool), batch).await;
        if matches!(written, Err(sqlx::Error::InvalidSavePointStatement)) {
            // SQLite ends a transaction by itself when the disk is full, and its connection miscounts ever after.
            connection.close_on_drop();
        }
        written
    }
}

/// Writes a batch in one transaction.
async fn write(
    connection: &mut AnyConnection,
    dialect: Dialect,
    mut batch: Batch,
) -> Result<(), sqlx::Error> {
    let mut transaction = match dialect {
        // Waits for other writers here, not half way through.
        Dialect::Sqlite => connection.begin_with("BEGIN IMMEDIATE").await?,
        Dialect::Postgres => connection.begin().await?,
    };
    for (table, take) in batch::TABLES {
        let rows = take(&mut batch);
        table.insert(&mut transaction, rows).await?;
    }
    count_audio(&mut transaction, batch).await?;
    transaction.commit().await
}

/// Merges audio that arrived into what had arrived before.
async fn count_audio(
    transaction: &mut Transaction<'_, Any>,
    batch: Batch,
) -> Result<(), sqlx::Error> {
    let row = |call: &str, tenant: &str, stretches: &Stretches| {
        let text = stretches.to_string();
        vec![
            call.into(),
            tenant.into(),
            text.into(),
            stretches.length().into(),
        ]
    };
    let mut audio = batch.audio;
    let none = Stretches::default();
    let calls = audio.iter();
    let calls = calls
        .map(|(call, (tenant, _))| row(call, tenant, &none))
        .collect();
    for known in LOCK.insert(transaction, calls).await? {
        let (call, before): (String, String) = (known.try_get(0)?, known.try_get(1)?);
        let before: Stretches = before
            .parse()
            .map_err(|error: String| sqlx::Error::Decode(error.into()))?;
        if let Some((_, stretches)) = audio.get_mut(&call) {
            stretches.merge(&before);
        }
    }
    let merged = audio.iter();
    let merged = merged.map(|(call, (tenant, stretches))| row(call, tenant, stretches));
    AUDIO
        .insert(transaction, merged.collect())
        .await
        .map(|_| ())
}
