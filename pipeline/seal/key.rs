//! Keys: the master key that wraps, and the data key of a call that seals.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::Sealed;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{SealError, WrappedKey};

/// First byte of everything sealed, so that the way of sealing can change one day.
const VERSION: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;

/// Which field is sealed: bound into the seal, so that sealed bytes cannot be moved to another
/// call, topic or field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub &'static str);

impl Field {
    /// The samples of `calls.audio`.
    pub const AUDIO: Self = Self("calls.audio/chunk.audio");
    /// The customer in every topic's `Started`.
    pub const CUSTOMER: Self = Self("calls/started.customer");
    /// The words of `calls.transcript`.
    pub const TEXT: Self = Self("calls.transcript/utterance.text");
}

/// The key that wraps data keys: 32 bytes from a file or environment variable.
pub struct MasterKey {
    cipher: Aes256Gcm,
    id: String,
}

impl MasterKey {
    /// Reads a master key from base64.
    ///
    /// # Errors
    /// [`SealError::BadMasterKey`] when it is not 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text.trim())
                .map_err(|_| SealError::BadMasterKey)?,
        );
        let cipher = Aes256Gcm::new_from_slice(&bytes).map_err(|_| SealError::BadMasterKey)?;
        let digest = Sha256::digest(Sha256::digest(&*bytes));
        let id = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self { cipher, id })
    }

    /// A new random master key, in base64.
    pub fn generate() -> Zeroizing<String> {
        let bytes: Zeroizing<[u8; KEY]> = Zeroizing::new(rand::random());
        Zeroizing::new(STANDARD.encode(*bytes))
    }

    /// Tells master keys apart without telling anything of them.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A new data key for a call, wrapped.
    pub(super) fn wrap(&self, call_id: &str) -> Result<WrappedKey, SealError> {
        let bytes: Zeroizing<[u8; KEY]> = Zeroizing::new(rand::random());
        let wrapped = seal(&self.cipher, &associated(call_id, "data key"), &*bytes);
        let bytes = wrapped.ok_or(SealError::BadMasterKey)?;
        Ok(WrappedKey {
            master_key_id: self.id.clone(),
            bytes,
        })
    }

    /// The data key in `wrapped`.
    pub(super) fn unwrap(&self, call_id: &str, wrapped: &WrappedKey) -> Result<CallKey, SealError> {
        let wrong = || SealError::WrongMasterKey {
            call_id: call_id.to_owned(),
            wrapped_by: wrapped.master_key_id.clone(),
            ours: self.id.clone(),
        };
        let bytes = open(
            &self.cipher,
            &associated(call_id, "data key"),
            &wrapped.bytes,
        )
        .ok_or_else(wrong)?;
        let cipher = Aes256Gcm::new_from_slice(&bytes).map_err(|_| wrong())?;
        Ok(CallKey {
            cipher: Arc::new(cipher),
            call_id: call_id.into(),
        })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The data key of one call. Cheap to clone.
#[derive(Clone)]
pub struct CallKey {
    cipher: Arc<Aes256Gcm>,
    call_id: Arc<str>,
}

impl CallKey {
    /// Seals `plain` for `field` of this call.
    ///
    /// # Errors
    /// Only for content beyond AES-GCM's limit of 64 GiB.
    pub fn seal(&self, field: Field, plain: &[u8]) -> Result<Sealed, SealError> {
        seal(&self.cipher, &associated(&self.call_id, field.0), plain)
            .map(Sealed)
            .ok_or_else(|| self.broken(field))
    }

    /// Opens what was sealed for `field` of this call.
    ///
    /// # Errors
    /// [`SealError::Broken`] when the bytes were changed or moved.
    pub fn open(&self, field: Field, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        open(&self.cipher, &associated(&self.call_id, field.0), &sealed.0)
            .ok_or_else(|| self.broken(field))
    }

    /// Opens text that was sealed for `field` of this call.
    ///
    /// # Errors
    /// As [`CallKey::open`]; also when it is not UTF-8.
    pub fn open_text(&self, field: Field, sealed: &Sealed) -> Result<String, SealError> {
        let bytes = self.open(field, sealed)?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| self.broken(field))
    }

    fn broken(&self, field: Field) -> SealError {
        SealError::Broken {
            call_id: self.call_id.to_string(),
            field: field.0,
        }
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallKey({})", self.call_id)
    }
}

fn associated(call_id: &str, field: &str) -> Vec<u8> {
    format!("{VERSION}\u{1f}{call_id}\u{1f}{field}").into_bytes()
}

/// Version, nonce, then ciphertext with tag.
fn seal(cipher: &Aes256Gcm, aad: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE] = rand::random();
    let sealed = cipher
        .encrypt(&Nonce::from(nonce), Payload { msg: plain, aad })
        .ok()?;
    let mut bytes = Vec::with_capacity(1 + NONCE + sealed.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    Some(bytes)
}

fn open(cipher: &Aes256Gcm, aad: &[u8], bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if bytes.len() < 1 + NONCE + TAG || bytes[0] != VERSION {
        return None;
    }
    let nonce: [u8; NONCE] = bytes[1..=NONCE].try_into().ok()?;
    let payload = Payload {
        msg: &bytes[1 + NONCE..],
        aad,
    };
    cipher
        .decrypt(&Nonce::from(nonce), payload)
        .ok()
        .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryKeys, Sealer};
    use super::*;

    fn sealer() -> Sealer {
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        Sealer::new(master, MemoryKeys::default())
    }

    #[tokio::test]
    async fn sealed_text_opens_only_as_what_it_was_sealed() {
        let sealer = sealer();
        let key = sealer.create("acme", "call-1").await.unwrap();
        let other = sealer.create("acme", "call-2").await.unwrap();
        let sealed = key
            .seal(Field::TEXT, "es demasiado caro".as_bytes())
            .unwrap();
        assert!(!sealed.0.windows(4).any(|w| w == b"caro"));
        assert_eq!(
            key.open_text(Field::TEXT, &sealed).unwrap(),
            "es demasiado caro"
        );
        assert!(matches!(
            key.open(Field::CUSTOMER, &sealed),
            Err(SealError::Broken { .. })
        ));
        assert!(matches!(
            other.open(Field::TEXT, &sealed),
            Err(SealError::Broken { .. })
        ));
        for at in 0..sealed.0.len() {
            let mut changed = sealed.clone();
            changed.0[at] ^= 1;
            assert!(key.open(Field::TEXT, &changed).is_err(), "byte {at}");
        }
        assert!(key.open(Field::TEXT, &Sealed(vec![1; 5])).is_err());
    }

    #[tokio::test]
    async fn a_destroyed_key_erases_the_call_for_good() {
        let sealer = sealer();
        sealer.create("acme", "call-1").await.unwrap();
        assert!(sealer.destroy("call-1").await.unwrap());
        assert!(matches!(
            sealer.key("call-1").await,
            Err(SealError::NoKey(_))
        ));
        assert!(matches!(
            sealer.create("acme", "call-1").await,
            Err(SealError::NoKey(_))
        ));
        assert!(!sealer.destroy("call-1").await.unwrap());
    }

    #[test]
    fn another_master_key_is_named_in_the_error() {
        let ours = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let theirs = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let wrapped = theirs.wrap("call-1").unwrap();
        let error = ours.unwrap("call-1", &wrapped).unwrap_err().to_string();
        assert!(
            error.contains(theirs.id()) && error.contains(ours.id()),
            "{error}"
        );
        assert!(matches!(
            MasterKey::from_base64("c2hvcnQ="),
            Err(SealError::BadMasterKey)
        ));
    }
}
