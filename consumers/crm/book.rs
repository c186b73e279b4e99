//! What write-back keeps in the database: facts, notes, connections, secrets, erased calls.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::clock;
use pipeline::database::{self, DatabaseError, Dialect};
use schemas::{Crm, Sealed};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyPool, AssertSqlSafe, Row, Transaction};

use super::client::Usage;
use super::fact::{Fact, Kept};
use crate::reporting::table::{Table, Value};

/// Calls in one question.
const ASKED: usize = 200;

const FACTS: Table = Table {
    name: "crm_facts",
    columns: &[
        "event_id",
        "tenant",
        "call_id",
        "kind",
        "happened_at",
        "fact",
    ],
    conflict: "ON CONFLICT (event_id) DO NOTHING",
};

const NOTES: Table = Table {
    name: "crm_notes",
    columns: &[
        "tenant",
        "call_id",
        "crm",
        "state",
        "content",
        "crm_id",
        "attempts",
        "reason",
        "detail",
        "changed_at",
    ],
    conflict: "ON CONFLICT (tenant, call_id, crm) DO UPDATE SET state = excluded.state, \
        content = excluded.content, crm_id = excluded.crm_id, attempts = excluded.attempts, \
        reason = excluded.reason, detail = excluded.detail, changed_at = excluded.changed_at",
};

/// What became of a call's note in one CRM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoteState {
    /// `written`, `parked` or `failed`; empty when nothing was tried.
    pub state: String,
    /// Hash of what the CRM has.
    pub content: Option<String>,
    /// The record's id in the CRM.
    pub crm_id: Option<String>,
    /// How often it was sent.
    pub attempts: i64,
    /// Why it is parked or failed.
    pub reason: Option<String>,
    /// The CRM's own words, masked.
    pub detail: Option<String>,
}

/// How a tenant's CRM is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Why nothing is sent until `until`.
    pub reason: Option<String>,
    /// The CRM's own words, masked.
    pub detail: Option<String>,
    /// Milliseconds since 1970.
    pub until: i64,
    /// API calls made.
    pub calls: i64,
    /// Used of the day's calls, as the CRM last said.
    pub daily_used: Option<i64>,
    /// The day's calls.
    pub daily_max: Option<i64>,
    /// Milliseconds since 1970.
    pub changed_at: i64,
}

/// The tables of write-back.
#[derive(Clone)]
pub struct Book {
    pool: AnyPool,
}

impl Book {
    /// The tables, brought up to date.
    ///
    /// # Errors
    /// When they cannot be made.
    pub async fn open(pool: AnyPool) -> Result<Self, DatabaseError> {
        database::migrate(&pool, "crm", sqlx::migrate!("./crm/migrations")).await?;
        Ok(Self { pool })
    }

    /// Keeps facts of calls (tenant, call, fact), but for those of erased calls. A fact that is
    /// there already stays as it is.
    ///
    /// # Errors
    /// When the database fails; nothing is kept then.
    pub async fn keep(&self, facts: &[(String, String, Kept)]) -> Result<(), sqlx::Error> {
        if facts.is_empty() {
            return Ok(());
        }
        let calls: BTreeSet<&str> = facts.iter().map(|(_, call, _)| call.as_str()).collect();
        let erased = self.erased(&calls).await?;
        let live = facts.iter().filter(|(tenant, call, _)| {
            let of = (tenant.clone(), call.clone());
            !erased.contains(&of)
        });
        let mut rows = Vec::new();
        for (tenant, call, kept) in live {
            let fact =
                serde_json::to_string(&kept.fact).map_err(|e| sqlx::Error::Encode(e.into()))?;
            rows.push(vec![
                Value::from(kept.event_id.as_str()),
                tenant.as_str().into(),
                call.as_str().into(),
                kept.fact.kind().into(),
                kept.time.into(),
                fact.into(),
            ]);
        }
        let mut transaction = self.begin().await?;
        FACTS.insert(&mut transaction, rows).await?;
        transaction.commit().await
    }

    /// Which topics each of these calls has ended on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn over(
        &self,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, sqlx::Error> {
        let sql = "SELECT call_id, kind FROM crm_facts WHERE kind LIKE 'over %' AND call_id IN";
        let mut over: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for row in self.of_calls(sql, calls).await? {
            let (call, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let topic = kind.trim_start_matches("over ").to_owned();
            over.entry(call).or_default().insert(topic);
        }
        Ok(over)
    }

    /// Everything that is kept of these calls.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn facts(
        &self,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, Vec<Kept>>, sqlx::Error> {
        let sql = "SELECT call_id, event_id, happened_at, fact FROM crm_facts WHERE call_id IN";
        let mut facts: BTreeMap<String, Vec<Kept>> = BTreeMap::new();
        for row in self.of_calls(sql, calls).await? {
            let fact: String = row.try_get(3)?;
            let fact: Fact =
                serde_json::from_str(&fact).map_err(|e| sqlx::Error::Decode(e.into()))?;
            facts.entry(row.try_get(0)?).or_default().push(Kept {
                event_id: row.try_get(1)?,
                time: row.try_get(2)?,
                fact,
            });
        }
        Ok(facts)
    }

    /// How many facts are kept of each of these calls.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn counts(
        &self,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, i64>, sqlx::Error> {
        let mut counts = BTreeMap::new();
        for calls in chunks(calls) {
            let sql = format!(
                "SELECT call_id, COUNT(*) FROM crm_facts WHERE call_id IN {} GROUP BY call_id",
                places(calls.len(), 1)
            );
            for row in bound(&sql, &calls).fetch_all(&self.pool).await? {
                counts.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        Ok(counts)
    }

    /// Forgets facts of what happened before `time`, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget(&self, time: i64) -> Result<(), sqlx::Error> {
        let sql = "DELETE FROM crm_facts WHERE happened_at < $1";
        sqlx::query(sql)
            .bind(time)
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// The tenant of a call that something is kept of.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tenant_of(&self, call: &str) -> Result<Option<String>, sqlx::Error> {
        let sql = "SELECT tenant FROM crm_facts WHERE call_id = $1 \
            UNION SELECT tenant FROM crm_notes WHERE call_id = $1 \
            UNION SELECT tenant FROM crm_erased WHERE call_id = $1";
        sqlx::query_scalar(sql)
            .bind(call)
            .fetch_optional(&self.pool)
            .await
    }

    /// What became of these calls' notes in a tenant's CRM.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notes(
        &self,
        tenant: &str,
        crm: Crm,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, NoteState>, sqlx::Error> {
        let mut notes = BTreeMap::new();
        for calls in chunks(calls) {
            let sql = format!(
                "SELECT call_id, state, content, crm_id, attempts, reason, detail FROM crm_notes \
                 WHERE call_id IN {} AND tenant = ${} AND crm = ${}",
                places(calls.len(), 1),
                calls.len() + 1,
                calls.len() + 2
            );
            let query = bound(&sql, &calls)
                .bind(tenant.to_owned())
                .bind(crm.as_str());
            for row in query.fetch_all(&self.pool).await? {
                notes.insert(
                    row.try_get(0)?,
                    NoteState {
                        state: row.try_get(1)?,
                        content: row.try_get(2)?,
                        crm_id: row.try_get(3)?,
                        attempts: row.try_get(4)?,
                        reason: row.try_get(5)?,
                        detail: row.try_get(6)?,
                    },
                );
            }
        }
        Ok(notes)
    }

    /// Sets what became of calls' notes.
    ///
    /// # Errors
    /// When the database fails; nothing is set then.
    pub async fn set_notes(
        &self,
        tenant: &str,
        crm: Crm,
        notes: impl IntoIterator<Item = (String, NoteState)>,
    ) -> Result<(), sqlx::Error> {
        let rows: Vec<Vec<Value>> = notes
            .into_iter()
            .map(|(call, note)| {
                vec![
                    tenant.into(),
                    call.into(),
                    crm.as_str().into(),
                    note.state.into(),
                    note.content.into(),
                    note.crm_id.into(),
                    note.attempts.into(),
                    note.reason.into(),
                    note.detail.into(),
                    clock::now().into(),
                ]
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        NOTES.insert(&mut transaction, rows).await?;
        transaction.commit().await
    }

    /// Calls whose notes a CRM refused, or that wait for it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls_in(
        &self,
        tenant: &str,
        crm: Crm,
        state: &str,
    ) -> Result<Vec<String>, sqlx::Error> {
        let sql = "SELECT call_id FROM crm_notes WHERE tenant = $1 AND crm = $2 AND state = $3 \
            ORDER BY call_id";
        let query = sqlx::query_scalar(sql).bind(tenant.to_owned());
        query
            .bind(crm.as_str())
            .bind(state.to_owned())
            .fetch_all(&self.pool)
            .await
    }

    /// How many notes of a tenant's CRM are in each state, and of those failed and parked why.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tally(
        &self,
        tenant: &str,
        crm: Crm,
    ) -> Result<Vec<(String, Option<String>, i64)>, sqlx::Error> {
        let sql = "SELECT state, reason, COUNT(*) FROM crm_notes WHERE tenant = $1 AND crm = $2 \
            GROUP BY state, reason ORDER BY state, reason";
        let query = sqlx::query(sql).bind(tenant.to_owned()).bind(crm.as_str());
        let rows = query.fetch_all(&self.pool).await?;
        let tally = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        tally.collect()
    }

    /// How a tenant's CRM is doing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn connection(&self, tenant: &str, crm: Crm) -> Result<ConnectionState, sqlx::Error> {
        let sql = "SELECT reason, detail, until_at, calls, daily_used, daily_max, changed_at \
            FROM crm_connections WHERE tenant = $1 AND crm = $2";
        let query = sqlx::query(sql).bind(tenant.to_owned()).bind(crm.as_str());
        let Some(row) = query.fetch_optional(&self.pool).await? else {
            return Ok(ConnectionState::default());
        };
        Ok(ConnectionState {
            reason: row.try_get(0)?,
            detail: row.try_get(1)?,
            until: row.try_get(2)?,
            calls: row.try_get(3)?,
            daily_used: row.try_get(4)?,
            daily_max: row.try_get(5)?,
            changed_at: row.try_get(6)?,
        })
    }

    /// Sends nothing to a tenant's CRM until `until`, for a reason; none: goes on sending.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stop_until(
        &self,
        tenant: &str,
        crm: Crm,
        stop: Option<(&str, &str, i64)>,
    ) -> Result<(), sqlx::Error> {
        let (reason, detail, until) = match stop {
            Some((reason, detail, until)) => (Some(reason), Some(detail), until),
            None => (None, None, 0),
        };
        let sql = "INSERT INTO crm_connections \
            (tenant, crm, reason, detail, until_at, calls, changed_at) \
            VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT (tenant, crm) DO UPDATE SET \
            reason = excluded.reason, detail = excluded.detail, until_at = excluded.until_at, \
            changed_at = excluded.changed_at";
        let query = sqlx::query(sql).bind(tenant.to_owned()).bind(crm.as_str());
        let query = query
            .bind(reason.map(str::to_owned))
            .bind(detail.map(str::to_owned));
        query
            .bind(until)
            .bind(clock::now())
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Notes what a tenant's CRM said of the day's calls, and so many calls more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn used(
        &self,
        tenant: &str,
        crm: Crm,
        usage: Usage,
        more: u64,
    ) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO crm_connections \
            (tenant, crm, until_at, calls, daily_used, daily_max, changed_at) \
            VALUES ($1, $2, 0, $3, $4, $5, $6) ON CONFLICT (tenant, crm) DO UPDATE SET \
            calls = crm_connections.calls + excluded.calls, daily_used = excluded.daily_used, \
            daily_max = excluded.daily_max, changed_at = excluded.changed_at";
        let query = sqlx::query(sql).bind(tenant.to_owned()).bind(crm.as_str());
        let query = query.bind(i64::try_from(more).unwrap_or(i64::MAX));
        let query = query.bind(usage.used).bind(usage.most).bind(clock::now());
        query.execute(&self.pool).await.map(|_| ())
    }

    /// What a tenant's CRM lets us in with, sealed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn secret(&self, tenant: &str, crm: Crm) -> Result<Option<Sealed>, sqlx::Error> {
        let sql = "SELECT sealed FROM crm_secrets WHERE tenant = $1 AND crm = $2";
        let query = sqlx::query_scalar(sql)
            .bind(tenant.to_owned())
            .bind(crm.as_str());
        let sealed: Option<Vec<u8>> = query.fetch_optional(&self.pool).await?;
        Ok(sealed.map(Sealed))
    }

    /// Sets what a tenant's CRM lets us in with, sealed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_secret(
        &self,
        tenant: &str,
        crm: Crm,
        sealed: Sealed,
    ) -> Result<(), sqlx::Error> {
        let sql = "INSERT INTO crm_secrets (tenant, crm, sealed, changed_at) \
            VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, crm) DO UPDATE SET \
            sealed = excluded.sealed, changed_at = excluded.changed_at";
        let query = sqlx::query(sql).bind(tenant.to_owned()).bind(crm.as_str());
        query
            .bind(sealed.0)
            .bind(clock::now())
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Which of these calls were erased, with their tenants.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erased(
        &self,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeSet<(String, String)>, sqlx::Error> {
        let sql = "SELECT tenant, call_id FROM crm_erased WHERE call_id IN";
        let rows = self.of_calls(sql, calls).await?;
        let erased = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        erased.collect()
    }

    /// Forgets all of a call but that it was erased.
    ///
    /// # Errors
    /// When the database fails; nothing is forgotten then.
    pub async fn erase(&self, tenant: &str, call: &str) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin().await?;
        let erased = sqlx::query(
            "INSERT INTO crm_erased (tenant, call_id, erased_at) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant, call_id) DO NOTHING",
        );
        let erased = erased
            .bind(tenant.to_owned())
            .bind(call.to_owned())
            .bind(clock::now());
        erased.execute(&mut *transaction).await?;
        for table in ["crm_facts", "crm_notes"] {
            let sql = format!("DELETE FROM {table} WHERE tenant = $1 AND call_id = $2");
            let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.to_owned());
            query
                .bind(call.to_owned())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match database::dialect(&self.pool) {
            // Waits for other writers here, not half way through.
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.pool.begin().await,
        }
    }

    /// The rows of `sql`, which ends in `IN`, for these calls.
    async fn of_calls(
        &self,
        sql: &str,
        calls: &BTreeSet<&str>,
    ) -> Result<Vec<AnyRow>, sqlx::Error> {
        let mut rows = Vec::new();
        for calls in chunks(calls) {
            let sql = format!("{sql} {}", places(calls.len(), 1));
            rows.extend(bound(&sql, &calls).fetch_all(&self.pool).await?);
        }
        Ok(rows)
    }
}

fn chunks(calls: &BTreeSet<&str>) -> Vec<Vec<String>> {
    let calls: Vec<String> = calls.iter().map(|call| (*call).to_owned()).collect();
    calls.chunks(ASKED).map(<[String]>::to_vec).collect()
}

/// `($1, $2, $3)`, from `first`.
fn places(count: usize, first: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|at| format!("${at}")).collect();
    format!("({})", places.join(", "))
}

fn bound<'q>(sql: &str, calls: &[String]) -> sqlx::query::Query<'q, Any, sqlx::any::AnyArguments> {
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    calls
        .iter()
        .cloned()
        .fold(query, |query, call| query.bind(call))
}
