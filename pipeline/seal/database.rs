//! Data keys in the database, wrapped by the master key.

use futures::future::{BoxFuture, FutureExt};
use sqlx::{AnyPool, Row};

use super::{KeyStore, SealError, WrappedKey};
use crate::clock;
use crate::database::{self, DatabaseError};

/// Data keys in table `call_keys`.
pub struct DatabaseKeys {
    pool: AnyPool,
}

impl DatabaseKeys {
    /// Opens the store, and makes its table when it is missing.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub async fn open(pool: AnyPool) -> Result<Self, DatabaseError> {
        database::migrate(&pool, "seal", sqlx::migrate!("./migrations")).await?;
        Ok(Self { pool })
    }

    async fn find(&self, call_id: &str) -> Result<Option<Found>, SealError> {
        let row = sqlx::query(
            "SELECT master_key_id, wrapped, destroyed_at FROM call_keys WHERE call_id = $1",
        )
        .bind(call_id)
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let destroyed: Option<i64> = row.try_get(2).map_err(failed)?;
        if destroyed.is_some() {
            return Ok(Some(Found::Destroyed));
        }
        Ok(Some(Found::Key(WrappedKey {
            master_key_id: row.try_get(0).map_err(failed)?,
            bytes: row.try_get(1).map_err(failed)?,
        })))
    }

    async fn find_any(&self) -> Result<Option<(String, WrappedKey)>, SealError> {
        let row = sqlx::query(
            "SELECT call_id, master_key_id, wrapped FROM call_keys \
             WHERE destroyed_at IS NULL LIMIT 1",
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let key = WrappedKey {
            master_key_id: row.try_get(1).map_err(failed)?,
            bytes: row.try_get(2).map_err(failed)?,
        };
        Ok(Some((row.try_get(0).map_err(failed)?, key)))
    }

    async fn insert(&self, tenant: &str, call_id: &str, key: WrappedKey) -> Result<(), SealError> {
        sqlx::query(
            "INSERT INTO call_keys (call_id, tenant, master_key_id, wrapped, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (call_id) DO NOTHING",
        )
        .bind(call_id)
        .bind(tenant)
        .bind(key.master_key_id)
        .bind(key.bytes)
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(failed)
    }

    /// Overwrites the key. The row stays, so that no later record brings the call back; a call
    /// that never had a key here gets such a row too.
    async fn overwrite(&self, call_id: &str) -> Result<bool, SealError> {
        let destroyed = sqlx::query(
            "UPDATE call_keys SET wrapped = $2, destroyed_at = $3 \
             WHERE call_id = $1 AND destroyed_at IS NULL",
        )
        .bind(call_id)
        .bind(Vec::<u8>::new())
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        if destroyed.rows_affected() > 0 {
            return Ok(true);
        }
        sqlx::query(
            "INSERT INTO call_keys \
             (call_id, tenant, master_key_id, wrapped, created_at, destroyed_at) \
             VALUES ($1, '', '', $2, $3, $3) ON CONFLICT (call_id) DO NOTHING",
        )
        .bind(call_id)
        .bind(Vec::<u8>::new())
        .bind(clock::now())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(false)
    }
}

enum Found {
    Key(WrappedKey),
    Destroyed,
}

impl KeyStore for DatabaseKeys {
    fn get<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<Option<WrappedKey>, SealError>> {
        async move {
            match self.find(call_id).await? {
                Some(Found::Key(key)) => Ok(Some(key)),
                Some(Found::Destroyed) | None => Ok(None),
            }
        }
        .boxed()
    }

    fn any(&self) -> BoxFuture<'_, Result<Option<(String, WrappedKey)>, SealError>> {
        self.find_any().boxed()
    }

    fn put<'a>(
        &'a self,
        tenant: &'a str,
        call_id: &'a str,
        key: WrappedKey,
    ) -> BoxFuture<'a, Result<WrappedKey, SealError>> {
        async move {
            self.insert(tenant, call_id, key).await?;
            // Another process may have been first: what lies there now counts.
            match self.find(call_id).await? {
                Some(Found::Key(key)) => Ok(key),
                Some(Found::Destroyed) | None => Err(SealError::NoKey(call_id.to_owned())),
            }
        }
        .boxed()
    }

    fn destroy<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<bool, SealError>> {
        self.overwrite(call_id).boxed()
    }
}

fn failed(error: sqlx::Error) -> SealError {
    SealError::Store(error.into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use schemas::Sealed;

    use super::super::{Field, MasterKey, Sealer};
    use super::*;
    use crate::database::tests::{each_database, settings};

    /// Several processes, as far as the database can tell: a pool and a cache each.
    async fn sealers(url: &str, count: usize) -> Vec<Sealer> {
        let master = MasterKey::generate();
        let mut sealers = Vec::new();
        for _ in 0..count {
            let pool = database::connect(&settings(url)).await.unwrap();
            let keys = DatabaseKeys::open(pool).await.unwrap();
            sealers.push(Sealer::new(MasterKey::from_base64(&master).unwrap(), keys));
        }
        sealers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn racing_processes_agree_on_one_key_of_a_call() {
        each_database(async |url| {
            let sealers = sealers(&url, 4).await;
            for round in 0..10 {
                let call = format!("call-{round}");
                let tasks = sealers.iter().cloned().map(|sealer| {
                    let call = call.clone();
                    tokio::spawn(async move { sealer.create("acme", &call).await })
                });
                let keys = futures::future::join_all(tasks).await;
                let keys: Vec<_> = keys.into_iter().map(|key| key.unwrap().unwrap()).collect();
                let sealed = keys[0].seal(Field::TEXT, b"hola").unwrap();
                for key in &keys {
                    assert_eq!(key.open_text(Field::TEXT, &sealed).unwrap(), "hola");
                }
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_destroyed_key_is_overwritten_and_never_comes_back() {
        each_database(async |url| {
            let [writer, eraser, late] = &sealers(&url, 3).await[..] else {
                panic!("three sealers")
            };
            writer.create("acme", "call-1").await.unwrap();
            assert!(eraser.destroy("call-1").await.unwrap());
            assert!(!eraser.destroy("call-1").await.unwrap());
            assert!(!eraser.destroy("call-2").await.unwrap());
            for call in ["call-1", "call-2"] {
                for result in [late.key(call).await, late.create("acme", call).await] {
                    assert!(matches!(result, Err(SealError::NoKey(_))), "{call}");
                }
            }
            let pool = database::connect(&settings(&url)).await.unwrap();
            let rows = sqlx::query("SELECT wrapped FROM call_keys")
                .fetch_all(&pool)
                .await;
            for row in rows.unwrap() {
                assert_eq!(row.get::<Vec<u8>, _>(0), Vec::<u8>::new());
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_another_process_erased_is_erased_here_within_the_keys_lifetime() {
        each_database(async |url| {
            let [writer, eraser] = &sealers(&url, 2).await[..] else {
                panic!("two sealers")
            };
            let lifetime = Duration::from_secs(1);
            let reader = writer.clone().keeping(lifetime);
            let begun = Instant::now();
            reader.create("acme", "call-1").await.unwrap();
            eraser.destroy("call-1").await.unwrap();
            harness::eventually(lifetime * 10, "it is erased", async || {
                reader.key("call-1").await.err()
            })
            .await;
            assert!(begun.elapsed() >= lifetime, "the key was not kept at hand");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_wrong_master_key_is_named_and_opens_nothing() {
        each_database(async |url| {
            let right = sealers(&url, 1).await.remove(0);
            let wrong = sealers(&url, 1).await.remove(0);
            wrong.check().await.unwrap();
            right.create("acme", "call-1").await.unwrap();
            right.check().await.unwrap();
            for error in [
                wrong.check().await.unwrap_err(),
                wrong.key("call-1").await.unwrap_err(),
            ] {
                assert!(matches!(error, SealError::WrongMasterKey { .. }), "{error}");
                assert!(!error.is_transient());
            }
            right.destroy("call-1").await.unwrap();
            wrong.check().await.unwrap();
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_database_is_gone_errors_are_transient_and_nothing_is_lost() {
        let postgres = harness::Postgres::start().await;
        let url = postgres.create_database().await;
        let sealer = sealers(&url, 1).await.remove(0);
        let sealed: Sealed = {
            let key = sealer.create("acme", "call-1").await.unwrap();
            key.seal(Field::TEXT, b"bonjour").unwrap()
        };
        postgres.kill().await;
        let error = sealer.create("acme", "call-2").await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        postgres.restart().await;
        let key = sealer.create("acme", "call-1").await.unwrap();
        assert_eq!(key.open_text(Field::TEXT, &sealed).unwrap(), "bonjour");
        sealer.create("acme", "call-2").await.unwrap();
    }
}
