//! The sample calls that ship inside the binary.

use std::io;
use std::path::{Path, PathBuf};

/// Two-party sales calls, 8 kHz, rep left and customer right; made by `samples/make.py`.
const SAMPLES: [(&str, &[u8]); 4] = [
    ("en", include_bytes!("samples/en.wav")),
    ("es", include_bytes!("samples/es.wav")),
    ("fr", include_bytes!("samples/fr.wav")),
    ("zh", include_bytes!("samples/zh.wav")),
];

/// Writes the sample call in `language` (English for `auto`) below `folder`, where it is not there
/// yet, and returns its path.
///
/// # Errors
/// When it cannot be written.
pub fn unpack(language: &str, folder: &Path) -> io::Result<PathBuf> {
    let [english, ..] = SAMPLES;
    let (name, bytes) = SAMPLES
        .into_iter()
        .find(|(name, _)| *name == language)
        .unwrap_or(english);
    let path = folder.join(format!("sample-{name}.wav"));
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
        return Ok(path);
    }
    std::fs::write(&path, bytes)?;
    Ok(path)
}
