//! One database, PostgreSQL or a SQLite file, through one code path.
//!
//! SQL is written once, for both: placeholders are `$1`, types are `BIGINT`, `TEXT`, `BOOLEAN`,
//! `DOUBLE PRECISION` and `BYTEA`.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AnyPool, Connection, Executor};

use crate::StageError;
use crate::config::{DatabaseUrl, Section};

/// Waiting for an unreachable database begins here and doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long one statement waits for a free connection, and one connection to be made.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Section `database`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME` or `sqlite:FILE`.
    pub url: DatabaseUrl,
    /// Connections a process keeps at most.
    pub connections: u32,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::new("postgres://localhost/sales_coach"),
            connections: 8,
        }
    }
}

impl Section for DatabaseSettings {
    const NAME: &'static str = "database";
}

impl DatabaseSettings {
    /// The same database, seen from another of its schemas. PostgreSQL only.
    pub fn within(&self, schema: &str) -> Self {
        let url = self.url.reveal();
        let mark = if url.contains('?') { '&' } else { '?' };
        Self {
            url: DatabaseUrl::new(format!("{url}{mark}options[search_path]={schema}")),
            ..self.clone()
        }
    }
}

/// Which of the two databases it is, where their SQL differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// It refuses us, and will again.
    #[error("database {url}: {cause}")]
    Refused {
        /// Its URL, password hidden.
        url: String,
        /// Why.
        cause: sqlx::Error,
    },
    /// The SQLite file's folder cannot be made.
    #[error("database folder {folder}: {cause}")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A statement failed.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error("bringing the tables of {tables} up to date: {cause}")]
    Migrate {
        /// Whose tables.
        tables: &'static str,
        /// Why.
        cause: sqlx::migrate::MigrateError,
    },
}

/// Connects, and waits with backoff while the server is unreachable, saying so. Drop the future
/// to give up. A SQLite file and its folder are made when they are missing.
///
/// # Errors
/// What waiting cannot cure: a wrong password, an unknown database, a file that is no database.
pub async fn connect(settings: &DatabaseSettings) -> Result<AnyPool, DatabaseError> {
    let mut wait = FIRST_WAIT;
    loop {
        let cause = match connect_once(settings).await {
            Err(DatabaseError::Refused { cause, .. }) if is_transient(&cause) => cause,
            done => return done,
        };
        tracing::warn!(
            url = %settings.url,
            error = %cause,
            retry_ms = wait.as_millis(),
            "database is unreachable, waiting"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Connects, or fails at the first refusal.
///
/// # Errors
/// When the database cannot be reached or refuses us.
pub async fn connect_once(settings: &DatabaseSettings) -> Result<AnyPool, DatabaseError> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    let refused = |cause| DatabaseError::Refused {
        url: settings.url.to_string(),
        cause,
    };
    let (url, in_memory) = match settings.url.reveal().strip_prefix("sqlite:") {
        Some(file) => sqlite_url(file)?,
        None => (settings.url.reveal().to_owned(), false),
    };
    // A pool hides why it cannot connect behind its own timeout: ask once without it.
    let first = tokio::time::timeout(ACQUIRE, AnyConnection::connect(&url)).await;
    let first = first.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    let mut first = first.map_err(refused)?;
    let dialect = of_url(&url);
    prepare(&mut first, dialect).await.map_err(refused)?;
    if !in_memory {
        first.close().await.map_err(refused)?;
    }
    // A database in memory is gone with its connection, and another connection is another one.
    let connections = if in_memory { 1 } else { settings.connections };
    let pool = AnyPoolOptions::new()
        .acquire_timeout(ACQUIRE)
        .max_connections(connections);
    let pool = match dialect {
        Dialect::Sqlite => pool.idle_timeout(None).max_lifetime(None),
        Dialect::Postgres => pool,
    };
    pool.after_connect(move |connection, _| Box::pin(prepare(connection, dialect)))
        .connect_lazy(&url)
        .map_err(refused)
}

/// Brings a part's tables up to date. Parts share a database, each with its own book of what
/// was done (`migrations_of_…`), so that they can be added and taken away one by one.
///
/// # Errors
/// When a migration fails, or was changed after it was applied.
pub async fn migrate(
    pool: &AnyPool,
    tables: &'static str,
    migrations: Migrator,
) -> Result<(), DatabaseError> {
    let mut migrations = migrations;
    migrations.dangerous_set_table_name(format!("migrations_of_{tables}"));
    let done = migrations.run(pool).await;
    done.map_err(|cause| DatabaseError::Migrate { tables, cause })
}

/// Which database a pool is connected to.
pub fn dialect(pool: &AnyPool) -> Dialect {
    of_url(pool.connect_options().database_url.as_str())
}

fn of_url(url: &str) -> Dialect {
    if url.starts_with("sqlite:") {
        return Dialect::Sqlite;
    }
    Dialect::Postgres
}

/// Whether the same statement may succeed later: the server is gone or overloaded, the file is
/// locked, the disk is full. Decided here and nowhere else.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            if error
                .try_downcast_ref::<sqlx::sqlite::SqliteError>()
                .is_some()
            {
                // Result codes: https://www.sqlite.org/rescode.html; extended ones keep the
                // primary code in their low byte. BUSY, LOCKED, NOMEM, READONLY, INTERRUPT,
                // IOERR, FULL, CANTOPEN, PROTOCOL.
                let primary = code.parse::<u32>().map_or(0, |code| code & 0xff);
                return matches!(primary, 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15);
            }
            // SQLSTATE classes: connection, transaction rolled back, resources, operator's
            // intervention, system. https://www.postgresql.org/docs/current/errcodes-appendix.html
            ["08", "25", "40", "53", "55", "57", "58"]
                .iter()
                .any(|class| code.starts_with(class))
        }
        _ => false,
    }
}

/// A failed statement as an instruction to the runner.
pub fn stage_error(error: sqlx::Error) -> StageError {
    if is_transient(&error) {
        return StageError::transient(error);
    }
    match &error {
        // Integrity and data errors are the record's own: 22 and 23, CONSTRAINT, MISMATCH, TOOBIG.
        sqlx::Error::Database(cause) if is_of_data(cause.as_ref()) => {
            crate::Poison::new("database", cause).into()
        }
        sqlx::Error::Encode(cause) => crate::Poison::new("database", cause).into(),
        _ => StageError::fatal(error),
    }
}

fn is_of_data(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if error
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .is_some()
    {
        let primary = code.parse::<u32>().map_or(0, |code| code & 0xff);
        return matches!(primary, 18..=20);
    }
    code.starts_with("22") || code.starts_with("23")
}

/// The URL of a SQLite file that is made when it is missing, its folder made now; and whether it
/// is in memory only.
fn sqlite_url(file: &str) -> Result<(String, bool), DatabaseError> {
    let in_memory = file.contains(":memory:") || file.contains("mode=memory");
    if in_memory {
        return Ok((format!("sqlite:{file}"), true));
    }
    let path = file.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("//").unwrap_or(path);
    let folder = Path::new(path).parent();
    if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|cause| DatabaseError::Folder {
            folder: folder.display().to_string(),
            cause,
        })?;
    }
    let mode = match (file.contains("mode="), file.contains('?')) {
        (true, _) => "",
        (false, true) => "&mode=rwc",
        (false, false) => "?mode=rwc",
    };
    Ok((format!("sqlite:{file}{mode}"), false))
}

/// On SQLite, readers do not wait for writers, writers wait for each other, what is committed survives a
/// crash of the machine (offsets are committed on its strength), what is deleted is overwritten.
async fn prepare(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), sqlx::Error> {
    if dialect == Dialect::Postgres {
        return Ok(());
    }
    for pragma in [
        "PRAGMA busy_timeout = 5000",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA secure_delete = ON",
    ] {
        connection.execute(pragma).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use sqlx::Row;

    use super::*;

    pub(crate) fn settings(url: &str) -> DatabaseSettings {
        DatabaseSettings {
            url: DatabaseUrl::new(url),
            connections: 4,
        }
    }

    /// Runs a test on a new SQLite file and on a new database of a real PostgreSQL server.
    pub(crate) async fn each_database(test: impl AsyncFn(String)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new folder/coach.db");
        test(format!("sqlite:{}", file.display())).await;
        test(harness::postgres().await.create_database().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_column_type_reads_back_what_was_written() {
        each_database(async |url| {
            let pool = connect(&settings(&url)).await.unwrap();
            let sql = "CREATE TABLE kinds (n BIGINT PRIMARY KEY, t TEXT, b BOOLEAN, d DOUBLE PRECISION, x BYTEA)";
            pool.execute(sql).await.unwrap();
            for n in [1_i64, i64::MAX] {
                sqlx::query("INSERT INTO kinds VALUES ($1, $2, $3, $4, $5)")
                    .bind(n)
                    .bind("¿cuánto?")
                    .bind(true)
                    .bind(0.25_f64)
                    .bind(vec![0_u8, 255, 10])
                    .execute(&pool)
                    .await
                    .unwrap();
            }
            sqlx::query("INSERT INTO kinds VALUES ($1, $2, $3, $4, $5)")
                .bind(3_i64)
                .bind(None::<String>)
                .bind(None::<bool>)
                .bind(None::<f64>)
                .bind(None::<Vec<u8>>)
                .execute(&pool)
                .await
                .unwrap();
            let sql = "SELECT n, t, CAST(b AS INT), d, x FROM kinds ORDER BY n";
            let rows = sqlx::query(sql).fetch_all(&pool).await.unwrap();
            assert_eq!(rows[2].get::<i64, _>(0), i64::MAX);
            assert_eq!(rows[0].get::<String, _>(1), "¿cuánto?");
            assert_eq!(rows[0].get::<i32, _>(2), 1);
            assert_eq!(rows[0].get::<f64, _>(3), 0.25);
            assert_eq!(rows[0].get::<Vec<u8>, _>(4), [0, 255, 10]);
            assert_eq!(rows[1].get::<Option<String>, _>(1), None);
            assert_eq!(rows[1].get::<Option<f64>, _>(3), None);
            assert_eq!(rows[1].get::<Option<Vec<u8>>, _>(4), None);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unreachable_server_is_waited_for() {
        let postgres = harness::Postgres::start().await;
        let url = postgres.create_database().await;
        postgres.kill().await;
        let error = connect_once(&settings(&url)).await.unwrap_err();
        assert!(
            error.to_string().contains(":***@") || !url.contains(":password@"),
            "{error}"
        );
        let waiting = {
            let settings = settings(&url);
            tokio::spawn(async move { connect(&settings).await })
        };
        tokio::time::sleep(FIRST_WAIT * 2).await;
        assert!(!waiting.is_finished());
        postgres.restart().await;
        let pool = tokio::time::timeout(LONGEST_WAIT * 2, waiting).await;
        pool.unwrap()
            .unwrap()
            .unwrap()
            .execute("SELECT 1")
            .await
            .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waiting_cannot_cure_fails_at_once() {
        let server = harness::postgres().await.url();
        let (base, _) = server.rsplit_once('/').unwrap();
        let unknown = connect(&settings(&format!("{base}/nowhere"))).await;
        assert!(unknown.unwrap_err().to_string().contains("nowhere"));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("note.txt");
        std::fs::write(
            &file,
            "this is a text and no database, however long it may be",
        )
        .unwrap();
        let error = connect(&settings(&format!("sqlite:{}", file.display())))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("not a database"), "{error}");
        let below = format!("sqlite:{}/deeper/coach.db", file.display());
        let error = connect(&settings(&below)).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Folder { .. }), "{error}");
    }
}
