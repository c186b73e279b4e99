//! Where the master key is.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MasterKey;
use crate::config::{ConfigError, ConfigErrors, Secret, Section};

/// Section `seal`: one of the two keys, and how long calls' keys are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SealSettings {
    /// The master key, 32 bytes in base64; rather set as `SALES_COACH_MASTER_KEY` than written
    /// into a file that others read.
    pub master_key: Option<Secret>,
    /// A file that holds the master key.
    pub master_key_file: Option<PathBuf>,
    /// How long a process keeps a call's key before it asks the database again, in seconds:
    /// erasing a call takes effect everywhere within it.
    pub key_lifetime_s: u32,
}

impl Default for SealSettings {
    fn default() -> Self {
        Self {
            master_key: None,
            master_key_file: None,
            key_lifetime_s: 600,
        }
    }
}

impl Section for SealSettings {
    const NAME: &'static str = "seal";
}

impl SealSettings {
    /// How long a process keeps a call's key.
    pub fn key_lifetime(&self) -> Duration {
        Duration::from_secs(self.key_lifetime_s.into())
    }

    /// The master key.
    ///
    /// # Errors
    /// When none or both are set, the file cannot be read, or it is no key.
    pub fn master_key(&self) -> Result<MasterKey, ConfigErrors> {
        let wrong = |key: &str, text: String| ConfigError::new("configuration", key, text);
        match (&self.master_key, &self.master_key_file) {
            (Some(key), None) => MasterKey::from_base64(key.reveal())
                .map_err(|error| wrong("seal.master_key", error.to_string()).into()),
            (None, Some(file)) => {
                let key = "seal.master_key_file";
                let name = file.display();
                let text = std::fs::read_to_string(file)
                    .map(zeroize::Zeroizing::new)
                    .map_err(|error| wrong(key, format!("{name} cannot be read: {error}")))?;
                MasterKey::from_base64(&text)
                    .map_err(|error| wrong(key, format!("{name}: {error}")).into())
            }
            (None, None) => {
                let text = "no master key: set SALES_COACH_MASTER_KEY or seal.master_key_file to 32 \
                            bytes in base64, for example from `openssl rand -base64 32`";
                Err(wrong("seal.master_key", text.to_owned()).into())
            }
            (Some(_), Some(_)) => {
                let text = "set this or seal.master_key_file, not both";
                Err(wrong("seal.master_key", text.to_owned()).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_comes_from_one_place_and_errors_say_which() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("key"), folder.path().join("bad"));
        let text = MasterKey::generate();
        std::fs::write(&good, format!("{}\n", *text)).unwrap();
        std::fs::write(&bad, "too short").unwrap();
        let settings = |key: Option<&str>, file: Option<&PathBuf>| SealSettings {
            master_key: key.map(Secret::new),
            master_key_file: file.cloned(),
            ..SealSettings::default()
        };
        let id = settings(Some(&text), None)
            .master_key()
            .unwrap()
            .id()
            .to_owned();
        assert_eq!(settings(None, Some(&good)).master_key().unwrap().id(), id);
        let error = |settings: SealSettings| settings.master_key().unwrap_err().to_string();
        assert!(error(settings(None, None)).contains("SALES_COACH_MASTER_KEY"));
        assert!(error(settings(Some(&text), Some(&good))).contains("not both"));
        assert!(error(settings(None, Some(&bad))).contains("bad: the master key must be 32 bytes"));
        assert!(error(settings(None, Some(&"/nowhere/key".into()))).contains("/nowhere/key"));
        let short = error(settings(Some("c2hvcnQ="), None));
        assert!(
            short.contains("seal.master_key: ") && !short.contains("c2hv"),
            "{short}"
        );
    }
}
