//! What the database holds of one call, for the end of `coach demo`.

use pipeline::database::DatabaseError;
use schemas::{Action, ObjectionKind};
use serde::Serialize;
use sqlx::{AnyPool, AssertSqlSafe, Row};

/// What the database holds of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Utterances of both speakers.
    pub utterances: u64,
    /// How often each kind of objection was found, in the order of the kinds; only those found.
    pub objections: Vec<(ObjectionKind, u64)>,
    /// Tips given.
    pub tips: u64,
    /// What the rep did with them, in the order of the actions; only those done.
    pub feedback: Vec<(Action, u64)>,
    /// Rows of the call in all tables.
    pub rows: u64,
    /// `open`, `complete`, `incomplete` or `timeout`, as the ledger says; empty for a call that
    /// it does not know.
    pub status: String,
    /// What is missing, in words; empty when nothing is.
    pub missing: String,
}

/// Every table with rows of calls.
pub(super) const TABLES: [&str; 11] = [
    "calls",
    "call_stories",
    "audio_received",
    "utterances",
    "insights",
    "objections",
    "objection_outcomes",
    "conversations",
    "tips",
    "feedback",
    "note_results",
];

/// What the database holds of a call.
///
/// # Errors
/// When the database cannot be read.
pub async fn summary(pool: &AnyPool, call_id: &str) -> Result<Summary, DatabaseError> {
    let mut summary = Summary::default();
    for table in TABLES {
        let count = count(pool, table, call_id).await?;
        summary.rows += count;
        match table {
            "utterances" => summary.utterances = count,
            "tips" => summary.tips = count,
            _ => {}
        }
    }
    let kinds = "SELECT kind, COUNT(*) FROM objections WHERE call_id = $1 GROUP BY kind";
    summary.objections = counts(pool, kinds, call_id).await?;
    let actions = "SELECT action, COUNT(*) FROM feedback WHERE call_id = $1 GROUP BY action";
    summary.feedback = counts(pool, actions, call_id).await?;
    let ledger = sqlx::query("SELECT status, missing FROM call_ledger WHERE call_id = $1");
    if let Some(row) = ledger.bind(call_id).fetch_optional(pool).await? {
        summary.status = row.try_get(0)?;
        summary.missing = row.try_get(1)?;
    }
    Ok(summary)
}

async fn count(pool: &AnyPool, table: &str, call_id: &str) -> Result<u64, sqlx::Error> {
    let sql = format!("SELECT COUNT(*) FROM {table} WHERE call_id = $1");
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(call_id)
        .fetch_one(pool)
        .await?;
    Ok(count.unsigned_abs())
}

/// Counts by a symbol, in the symbol's own order.
async fn counts<K: std::str::FromStr<Err = String> + Ord>(
    pool: &AnyPool,
    sql: &'static str,
    call_id: &str,
) -> Result<Vec<(K, u64)>, sqlx::Error> {
    let mut counts = Vec::new();
    for row in sqlx::query(sql).bind(call_id).fetch_all(pool).await? {
        let (key, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let key = key
            .parse()
            .map_err(|error: String| sqlx::Error::Decode(error.into()))?;
        counts.push((key, count.unsigned_abs()));
    }
    counts.sort();
    Ok(counts)
}
