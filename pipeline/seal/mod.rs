//! Personal content is sealed with AES-256-GCM under a data key of its call before it reaches
//! Kafka. Data keys are wrapped by a master key; destroying a call's key erases the call from
//! every topic, dead letter, backup and table at once.

mod database;
mod key;
mod memory;
mod settings;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

pub use database::DatabaseKeys;
pub use key::{CallKey, Field, MasterKey};
pub use memory::MemoryKeys;
pub use settings::SealSettings;

/// Why content cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There is no key for this call: it was erased, or never known here.
    #[error("call {0} has no data key: it was erased, or another database holds it")]
    NoKey(String),
    /// The data key was wrapped by another master key.
    #[error(
        "the data key of call {call_id} was wrapped by master key {wrapped_by}, not by {ours}: \
         configure the master key that this database was filled with"
    )]
    WrongMasterKey {
        /// The call.
        call_id: String,
        /// Id of the master key that wrapped it.
        wrapped_by: String,
        /// Id of the master key configured here.
        ours: String,
    },
    /// Bytes were changed, or sealed for another call or field.
    #[error("sealed content of call {call_id}, {field}, does not open: changed or misplaced")]
    Broken {
        /// The call.
        call_id: String,
        /// The field.
        field: &'static str,
    },
    /// The master key is not 32 bytes of base64.
    #[error(
        "the master key must be 32 bytes in base64, for example from `openssl rand -base64 32`"
    )]
    BadMasterKey,
    /// The key store did not answer; it may later.
    #[error("key store: {0}")]
    Store(#[source] anyhow::Error),
}

impl SealError {
    /// Whether a later try may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

/// A data key as it is stored.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// Id of the master key that wrapped it.
    pub master_key_id: String,
    /// The wrapped bytes.
    pub bytes: Vec<u8>,
}

/// Where wrapped data keys lie.
pub trait KeyStore: Send + Sync + 'static {
    /// The call's key, if there is one.
    fn get<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<Option<WrappedKey>, SealError>>;

    /// Any call and its key, if there is one.
    fn any(&self) -> BoxFuture<'_, Result<Option<(String, WrappedKey)>, SealError>>;

    /// Stores a key for a call that has none, and returns the key that the call has now: another
    /// process may have been first. [`SealError::NoKey`] when the call's key was destroyed.
    fn put<'a>(
        &'a self,
        tenant: &'a str,
        call_id: &'a str,
        key: WrappedKey,
    ) -> BoxFuture<'a, Result<WrappedKey, SealError>>;

    /// Destroys a call's key for good; true when there was one.
    fn destroy<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<bool, SealError>>;
}

/// How many calls' keys a process keeps at hand.
const CACHED: usize = 10_000;

/// Seals and opens personal content. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    master: Arc<MasterKey>,
    store: Arc<dyn KeyStore>,
    cache: Arc<Mutex<Cache>>,
    lifetime: Duration,
}

/// Calls' keys at hand, each until when.
type Cache = HashMap<String, (CallKey, Instant)>;

impl Sealer {
    /// A sealer whose data keys lie in `store`, wrapped by `master`.
    pub fn new(master: MasterKey, store: impl KeyStore) -> Self {
        Self {
            master: Arc::new(master),
            store: Arc::new(store),
            cache: Arc::default(),
            lifetime: SealSettings::default().key_lifetime(),
        }
    }

    /// The same, with another time for which a key is kept at hand before the store is asked
    /// again: within it a call that was erased elsewhere is erased here too.
    pub fn keeping(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// Looks whether the keys in the store are of this master key: for processes that start, so
    /// that one with another seals nothing beside them.
    ///
    /// # Errors
    /// [`SealError::WrongMasterKey`]; [`SealError::Store`] is transient.
    pub async fn check(&self) -> Result<(), SealError> {
        if let Some((call_id, wrapped)) = self.store.any().await? {
            self.master.unwrap(&call_id, &wrapped)?;
        }
        Ok(())
    }

    /// The key of a call, made now if it has none: for whoever brings a call in.
    ///
    /// # Errors
    /// [`SealError::NoKey`] when it was destroyed; [`SealError::Store`] is transient.
    pub async fn create(&self, tenant: &str, call_id: &str) -> Result<CallKey, SealError> {
        if let Some(key) = self.cached(call_id) {
            return Ok(key);
        }
        if let Some(wrapped) = self.store.get(call_id).await? {
            return self.keep(call_id, &wrapped);
        }
        let wrapped = self.master.wrap(call_id)?;
        let wrapped = self.store.put(tenant, call_id, wrapped).await?;
        self.keep(call_id, &wrapped)
    }

    /// The key of a call that someone has brought in.
    ///
    /// # Errors
    /// [`SealError::NoKey`] when it was erased; [`SealError::Store`] is transient.
    pub async fn key(&self, call_id: &str) -> Result<CallKey, SealError> {
        if let Some(key) = self.cached(call_id) {
            return Ok(key);
        }
        match self.store.get(call_id).await? {
            Some(wrapped) => self.keep(call_id, &wrapped),
            None => Err(SealError::NoKey(call_id.to_owned())),
        }
    }

    /// Erases a call: destroys its key for good. True when there was one.
    ///
    /// # Errors
    /// [`SealError::Store`], transient.
    pub async fn destroy(&self, call_id: &str) -> Result<bool, SealError> {
        self.lock().remove(call_id);
        self.store.destroy(call_id).await
    }

    fn keep(&self, call_id: &str, wrapped: &WrappedKey) -> Result<CallKey, SealError> {
        let key = self.master.unwrap(call_id, wrapped)?;
        let now = Instant::now();
        let mut cache = self.lock();
        cache.retain(|_, (_, until)| now < *until);
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(call_id.to_owned(), (key.clone(), now + self.lifetime));
        Ok(key)
    }

    fn cached(&self, call_id: &str) -> Option<CallKey> {
        let cache = self.lock();
        let (key, until) = cache.get(call_id)?;
        (Instant::now() < *until).then(|| key.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
