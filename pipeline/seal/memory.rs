//! Data keys in memory, for tests and for commands that keep nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt, ready};

use super::{KeyStore, SealError, WrappedKey};

/// Data keys in memory; a destroyed key leaves its call marked.
#[derive(Default)]
pub struct MemoryKeys(Mutex<HashMap<String, Option<WrappedKey>>>);

impl MemoryKeys {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<WrappedKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore for MemoryKeys {
    fn get<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<Option<WrappedKey>, SealError>> {
        ready(Ok(self.lock().get(call_id).cloned().flatten())).boxed()
    }

    fn any(&self) -> BoxFuture<'_, Result<Option<(String, WrappedKey)>, SealError>> {
        let keys = self.lock();
        let mut keys = keys.iter();
        let any = keys.find_map(|(call, key)| Some((call.clone(), key.clone()?)));
        ready(Ok(any)).boxed()
    }

    fn put<'a>(
        &'a self,
        _tenant: &'a str,
        call_id: &'a str,
        key: WrappedKey,
    ) -> BoxFuture<'a, Result<WrappedKey, SealError>> {
        let kept = self
            .lock()
            .entry(call_id.to_owned())
            .or_insert(Some(key))
            .clone();
        ready(kept.ok_or_else(|| SealError::NoKey(call_id.to_owned()))).boxed()
    }

    fn destroy<'a>(&'a self, call_id: &'a str) -> BoxFuture<'a, Result<bool, SealError>> {
        let had = self
            .lock()
            .insert(call_id.to_owned(), None)
            .flatten()
            .is_some();
        ready(Ok(had)).boxed()
    }
}
