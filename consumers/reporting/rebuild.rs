//! The tables anew from the topics: filled in a schema of their own, compared with the live ones,
//! and put in their place in one transaction. PostgreSQL only.
//!
//! What is put in place is the difference: rows that are missing come, rows that differ change, and
//! rows that no record explains go only when the operator says so. The live tables stay the tables
//! that they are, with the rights that were given on them and the views that others built on them,
//! and a reader sees all of the old rows or all of the new.

use std::fmt;

use pipeline::database::{self, DatabaseError, DatabaseSettings, Dialect};
use serde::{Deserialize, Serialize};
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor, Row, Transaction};

use super::batch::TABLES;
use super::table::{AUDIO, Table};
use super::{Reporting, Settings};

/// How long the live tables' writers may hold them before the swap gives up.
const LOCK_WITHIN: &str = "SET LOCAL lock_timeout = '30s'";

/// Which rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All.
    All,
    /// One customer organisation's.
    Tenant(String),
    /// One call's.
    Call(String),
}

impl Scope {
    /// The condition on a row, and what is bound to it.
    fn condition(&self) -> (&'static str, &str) {
        match self {
            // One placeholder in each, so that all are bound alike.
            Self::All => ("$1 = ''", ""),
            Self::Tenant(tenant) => ("tenant = $1", tenant),
            Self::Call(call) => ("call_id = $1", call),
        }
    }
}

/// How a topic stands with its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Topic, without a prefix.
    pub topic: &'static str,
    /// The oldest record of a partition that has lost some, the newest of these, in milliseconds
    /// since 1970; none while the topic holds all it ever got.
    pub since: Option<i64>,
}

/// What the comparison of a table says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// Rows that are the same.
    pub same: u64,
    /// Rows that the live table lacks.
    pub missing: u64,
    /// Rows that differ.
    pub changed: u64,
    /// Live rows that no record explains.
    pub unexplained: u64,
}

/// Why a rebuild does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The database is SQLite.
    #[error(
        "a rebuild needs PostgreSQL; a SQLite file is rebuilt by moving it away and running \
         `coach run reporting` under a new [kafka] prefix or group"
    )]
    Sqlite,
    /// The database refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<sqlx::Error> for RebuildError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A rebuild's own tables beside the live ones.
pub struct Rebuild {
    live: AnyPool,
    /// Schema of the live tables, and of the rebuild's own.
    schemas: (String, String),
    scope: Scope,
    fresh: AnyPool,
    /// The sink of the rebuild's own tables.
    pub sink: Reporting,
}

impl fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebuild")
            .field("schemas", &self.schemas)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The live tables, locked: nothing is written to them until the swap is done or given up.
pub struct Locked<'a> {
    rebuild: &'a Rebuild,
    transaction: Transaction<'static, Any>,
}

impl Rebuild {
    /// Makes the schema `schema` with its tables, or finds those that an earlier try has left.
    ///
    /// # Errors
    /// [`RebuildError`]; among the causes: no right to create schemas.
    pub async fn open(
        reporting: Settings,
        database: &DatabaseSettings,
        schema: &str,
        scope: Scope,
    ) -> Result<Self, RebuildError> {
        let live = database::connect_once(database).await?;
        if database::dialect(&live) == Dialect::Sqlite {
            return Err(RebuildError::Sqlite);
        }
        // A database that was lost has no tables yet.
        let live_sink = Reporting::connect(reporting.clone(), live.clone()).await?;
        let live = live_sink.pool;
        let name: String = sqlx::query_scalar("SELECT CAST(current_schema() AS TEXT)")
            .fetch_one(&live)
            .await?;
        live.execute(sql(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
            .await?;
        let fresh = database::connect_once(&database.within(schema)).await?;
        let sink = Reporting::connect(reporting, fresh.clone()).await?;
        fresh
            .execute(
                "CREATE TABLE IF NOT EXISTS replay_places (topic TEXT NOT NULL, \
                 partition BIGINT NOT NULL, next BIGINT NOT NULL, PRIMARY KEY (topic, partition))",
            )
            .await?;
        Ok(Self {
            live,
            schemas: (name, schema.to_owned()),
            scope,
            fresh,
            sink,
        })
    }

    /// Where to go on in each partition: topic on the broker, partition, offset.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn places(&self) -> Result<Vec<(String, i32, i64)>, RebuildError> {
        let rows = sqlx::query("SELECT topic, partition, next FROM replay_places")
            .fetch_all(&self.fresh)
            .await?;
        let mut places = Vec::new();
        for row in rows {
            let partition: i64 = row.try_get(1)?;
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            places.push((row.try_get(0)?, partition, row.try_get(2)?));
        }
        Ok(places)
    }

    /// Keeps where to go on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn keep_places(
        &self,
        places: impl IntoIterator<Item = (&(String, i32), &i64)>,
    ) -> Result<(), RebuildError> {
        let mut transaction = self.fresh.begin().await?;
        for ((topic, partition), next) in places {
            sqlx::query(
                "INSERT INTO replay_places (topic, partition, next) VALUES ($1, $2, $3) \
                 ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next",
            )
            .bind(topic.as_str())
            .bind(i64::from(*partition))
            .bind(*next)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Locks the live tables against writers; readers go on. A sink that writes waits.
    ///
    /// # Errors
    /// When someone holds them for too long.
    pub async fn lock(&self) -> Result<Locked<'_>, RebuildError> {
        let mut transaction = self.live.begin().await?;
        transaction.execute(LOCK_WITHIN).await?;
        // In the order in which the sink writes, so that neither waits for the other in a ring.
        let tables: Vec<String> = tables().map(|table| self.live(&table)).collect();
        let lock = format!(
            "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
            tables.join(", ")
        );
        transaction.execute(sql(lock)).await?;
        Ok(Locked {
            rebuild: self,
            transaction,
        })
    }

    /// Takes over from the live tables what the topics do not hold any more, then compares.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn compare(&self, held: &[Held]) -> Result<(u64, Vec<Difference>), RebuildError> {
        let mut transaction = self.live.begin().await?;
        let kept = self.keep(&mut transaction, held).await?;
        let differences = self.differences(&mut transaction).await?;
        transaction.commit().await?;
        Ok((kept, differences))
    }

    /// Throws the rebuild's own tables away.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn discard(self) -> Result<(), RebuildError> {
        self.fresh.close().await;
        discard(&self.live, &self.schemas.1).await
    }

    /// Rows of calls that a topic does not hold from their start any more stay as they are. Gives
    /// how many stories that were.
    async fn keep(
        &self,
        transaction: &mut Transaction<'_, Any>,
        held: &[Held],
    ) -> Result<u64, RebuildError> {
        let mut kept = 0;
        for held in held {
            let Some(since) = held.since else { continue };
            if let Some((table, at)) = told_once(held.topic) {
                kept += self.keep_older(transaction, &table, at, since).await?;
                continue;
            }
            let gone = self.gone(held.topic);
            for table in tables().filter(|table| topic_of(table.name) == Some(held.topic)) {
                self.take_over(transaction, &table, &gone, held.topic)
                    .await?;
            }
            // Last, for it is what tells which calls they are.
            kept += self
                .take_over(transaction, &super::table::CALL_STORIES, &gone, held.topic)
                .await?;
            let (fresh, live) = (self.fresh("calls"), self.live_named("calls"));
            let columns = super::table::CALLS.columns.join(", ");
            let (condition, bound) = self.scope.condition();
            let calls = format!(
                "INSERT INTO {fresh} ({columns}) SELECT {columns} FROM {live} c WHERE {condition} \
                 AND EXISTS (SELECT 1 FROM {} s WHERE s.call_id = c.call_id) ON CONFLICT DO NOTHING",
                self.fresh("call_stories")
            );
            sqlx::query(sql(calls))
                .bind(bound)
                .execute(&mut **transaction)
                .await?;
        }
        Ok(kept)
    }

    /// The calls whose start the topic does not hold any more: known live, and not here.
    fn gone(&self, topic: &str) -> String {
        let (condition, _) = self.scope.condition();
        let (live, fresh) = (self.live_named("call_stories"), self.fresh("call_stories"));
        // Topics are names of the topic table, not anyone's input.
        format!(
            "SELECT l.call_id FROM (SELECT * FROM {live} WHERE {condition}) l \
             LEFT JOIN {fresh} f ON f.call_id = l.call_id AND f.topic = l.topic \
             WHERE l.topic = '{topic}' AND (f.call_id IS NULL OR (l.started AND NOT f.started))"
        )
    }

    async fn take_over(
        &self,
        transaction: &mut Transaction<'_, Any>,
        table: &Table,
        gone: &str,
        topic: &str,
    ) -> Result<u64, RebuildError> {
        let (live, fresh) = (self.live(table), self.fresh(table.name));
        let columns = table.columns.join(", ");
        let of_topic = match table.name {
            "call_stories" => format!("AND topic = '{topic}'"),
            _ => String::new(),
        };
        // Which calls they are must not change between the two statements.
        let (_, bound) = self.scope.condition();
        let list = "replay_gone";
        let statements = [
            format!("CREATE TEMPORARY TABLE {list} ON COMMIT DROP AS {gone}"),
            format!("DELETE FROM {fresh} WHERE call_id IN (SELECT call_id FROM {list}) {of_topic}"),
            format!(
                "INSERT INTO {fresh} ({columns}) SELECT {columns} FROM {live} \
                 WHERE call_id IN (SELECT call_id FROM {list}) {of_topic}"
            ),
            format!("DROP TABLE {list}"),
        ];
        let mut taken = 0;
        for (number, statement) in statements.into_iter().enumerate() {
            // A statement that makes a table takes no parameters.
            let statement = match number {
                0 => statement.replace("$1", &quoted(bound)),
                _ => statement,
            };
            let done = sqlx::query(sql(statement))
                .execute(&mut **transaction)
                .await?;
            if number == 2 {
                taken = done.rows_affected();
            }
        }
        Ok(taken)
    }

    async fn keep_older(
        &self,
        transaction: &mut Transaction<'_, Any>,
        table: &Table,
        at: &str,
        since: i64,
    ) -> Result<u64, RebuildError> {
        let (fresh, live) = (self.fresh(table.name), self.live(table));
        let columns = table.columns.join(", ");
        let (condition, bound) = self.scope.condition();
        let statement = format!(
            "INSERT INTO {fresh} ({columns}) SELECT {columns} FROM {live} \
             WHERE {condition} AND {at} <= {since} ON CONFLICT DO NOTHING"
        );
        let done = sqlx::query(sql(statement))
            .bind(bound)
            .execute(&mut **transaction)
            .await?;
        Ok(done.rows_affected())
    }

    async fn differences(
        &self,
        transaction: &mut Transaction<'_, Any>,
    ) -> Result<Vec<Difference>, RebuildError> {
        let mut differences = Vec::new();
        for table in tables() {
            let (condition, bound) = self.scope.condition();
            let key = key_of(table.name);
            let (l, f) = (row(&table, "l"), row(&table, "f"));
            let statement = format!(
                "SELECT \
                 COUNT(*) FILTER (WHERE l.{key} IS NOT NULL AND f.{key} IS NOT NULL \
                     AND {l} IS NOT DISTINCT FROM {f}), \
                 COUNT(*) FILTER (WHERE l.{key} IS NULL), \
                 COUNT(*) FILTER (WHERE l.{key} IS NOT NULL AND f.{key} IS NOT NULL \
                     AND {l} IS DISTINCT FROM {f}), \
                 COUNT(*) FILTER (WHERE f.{key} IS NULL) \
                 FROM (SELECT * FROM {} WHERE {condition}) l FULL JOIN {} f ON {}",
                self.live(&table),
                self.fresh(table.name),
                same_key(&table, "l", "f"),
                key = key[0],
            );
            let counts = sqlx::query(sql(statement))
                .bind(bound)
                .fetch_one(&mut **transaction)
                .await?;
            let count = |at: usize| counts.try_get::<i64, _>(at).map(i64::unsigned_abs);
            differences.push(Difference {
                table: table.name.to_owned(),
                same: count(0)?,
                missing: count(1)?,
                changed: count(2)?,
                unexplained: count(3)?,
            });
        }
        Ok(differences)
    }

    fn live(&self, table: &Table) -> String {
        self.live_named(table.name)
    }

    fn live_named(&self, table: &str) -> String {
        format!("\"{}\".{table}", self.schemas.0)
    }

    fn fresh(&self, table: &str) -> String {
        format!("{}.{table}", self.schemas.1)
    }
}

impl Locked<'_> {
    /// Takes over what the topics do not hold any more and compares, with the tables locked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn compare(&mut self, held: &[Held]) -> Result<(u64, Vec<Difference>), RebuildError> {
        let kept = self.rebuild.keep(&mut self.transaction, held).await?;
        let differences = self.rebuild.differences(&mut self.transaction).await?;
        Ok((kept, differences))
    }

    /// Puts the rebuilt rows in place, all at once; live rows that no record explains go when
    /// `remove` says so, and stay else.
    ///
    /// # Errors
    /// When the database refuses; then nothing has changed.
    pub async fn swap(mut self, remove: bool) -> Result<(), RebuildError> {
        let rebuild = self.rebuild;
        let (condition, bound) = rebuild.scope.condition();
        for table in tables() {
            let (live, fresh) = (rebuild.live(&table), rebuild.fresh(table.name));
            let key = same_key(&table, "l", "f");
            let (l, f) = (row(&table, "l"), row(&table, "f"));
            let differs = match remove {
                true => format!(
                    "NOT EXISTS (SELECT 1 FROM {fresh} f WHERE {key} AND {l} IS NOT DISTINCT FROM {f})"
                ),
                false => format!(
                    "EXISTS (SELECT 1 FROM {fresh} f WHERE {key} AND {l} IS DISTINCT FROM {f})"
                ),
            };
            let delete = format!("DELETE FROM {live} l WHERE {condition} AND {differs}");
            sqlx::query(sql(delete))
                .bind(bound)
                .execute(&mut *self.transaction)
                .await?;
            let columns = table.columns.join(", ");
            let insert = format!(
                "INSERT INTO {live} ({columns}) SELECT {columns} FROM {fresh} f \
                 WHERE NOT EXISTS (SELECT 1 FROM {live} l WHERE {key})"
            );
            self.transaction.execute(sql(insert)).await?;
        }
        Ok(self.transaction.commit().await?)
    }
}

/// Throws a rebuild's own tables away, if they are there.
///
/// # Errors
/// When the database refuses.
pub async fn discard(pool: &AnyPool, schema: &str) -> Result<(), RebuildError> {
    let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
    pool.execute(sql(drop)).await?;
    Ok(())
}

/// Every table with rows of calls, in the order in which the sink writes them.
fn tables() -> impl Iterator<Item = Table> {
    TABLES.into_iter().map(|(table, _)| table).chain([AUDIO])
}

/// The table of a topic without stories of calls, and the column of its events' time.
fn told_once(topic: &str) -> Option<(Table, &'static str)> {
    match topic {
        "coaching.feedback" => Some((super::table::FEEDBACK, "given_at")),
        "crm.notes" => Some((super::table::NOTE_RESULTS, "happened_at")),
        _ => None,
    }
}

/// The columns that name a row.
fn key_of(table: &str) -> &'static [&'static str] {
    match table {
        "calls" | "conversations" | "audio_received" => &["call_id"],
        "call_stories" => &["call_id", "topic"],
        "objections" => &["insight_id", "kind"],
        "objection_outcomes" => &["call_id", "kind"],
        _ => &["event_id"],
    }
}

/// The topic that a table's rows come from; none where they come from several.
fn topic_of(table: &str) -> Option<&'static str> {
    match table {
        "audio_received" => Some("calls.audio"),
        "utterances" => Some("calls.transcript"),
        "insights" | "objections" | "conversations" => Some("calls.insights"),
        "tips" | "objection_outcomes" => Some("coaching.tips"),
        "feedback" => Some("coaching.feedback"),
        "note_results" => Some("crm.notes"),
        _ => None,
    }
}

fn same_key(table: &Table, a: &str, b: &str) -> String {
    let columns = key_of(table.name).iter();
    let equal: Vec<String> = columns
        .map(|column| format!("{a}.{column} = {b}.{column}"))
        .collect();
    equal.join(" AND ")
}

/// All of a row as one value.
fn row(table: &Table, of: &str) -> String {
    let columns = table.columns.iter();
    let columns: Vec<String> = columns.map(|column| format!("{of}.{column}")).collect();
    format!("ROW({})", columns.join(", "))
}

/// Text as a literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A statement made of names of this program, and of literals that are quoted.
fn sql(statement: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(statement)
}

#[cfg(test)]
mod tests {
    use schemas::Topic;

    use super::*;

    #[test]
    fn every_table_has_a_key_and_the_topic_by_whose_retention_its_rows_are_kept() {
        for table in tables() {
            for column in key_of(table.name) {
                assert!(table.columns.contains(column), "{}.{column}", table.name);
            }
            // Rows of these come from several topics.
            if !["calls", "call_stories"].contains(&table.name) {
                let topic = topic_of(table.name);
                assert!(
                    topic.is_some_and(|topic| Topic::named(topic).is_some()),
                    "{}",
                    table.name
                );
            }
        }
    }

    #[test]
    fn a_name_in_a_literal_ends_no_literal() {
        assert_eq!(quoted("o'brien"), "'o''brien'");
    }
}
