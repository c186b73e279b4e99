//! Config section `[seal]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{MasterKey, SealError};
use crate::config::{Secret, Section};

/// Config section `[seal]`: the master key, itself or in a file. Every process of an installation
/// has the same; without it nothing that was sealed can be opened again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SealSettings {
    /// The master key: 32 bytes in base64. Goes before the file.
    pub master_key: Secret,
    /// File that holds the master key in base64.
    pub master_key_file: Option<PathBuf>,
}

impl Section for SealSettings {
    const NAME: &'static str = "seal";
}

impl SealSettings {
    /// The master key.
    ///
    /// # Errors
    /// [`SealError::NoMasterKey`] when none is configured, [`SealError::MasterKeyFile`] when its
    /// file cannot be read, [`SealError::BadMasterKey`] when it is none.
    pub fn open(&self) -> Result<MasterKey, SealError> {
        if !self.master_key.reveal().is_empty() {
            return MasterKey::from_base64(self.master_key.reveal());
        }
        let path = self
            .master_key_file
            .as_ref()
            .ok_or(SealError::NoMasterKey)?;
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|cause| SealError::MasterKeyFile {
                path: path.clone(),
                cause,
            })?;
        MasterKey::from_base64(&text)
    }
}
