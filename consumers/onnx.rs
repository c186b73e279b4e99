//! The one place that opens ONNX Runtime and its graphs.
//!
//! The runtime is a shared library in the cache (`make models` puts it there), loaded once a
//! process. Sessions run on the thread that calls them: several single-threaded sessions side by
//! side beat one session with several threads.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Why a model cannot be used. Every text names the way out.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file is not in the cache.
    #[error("{} is missing: run `make models` to fetch it", .0.display())]
    Missing(PathBuf),
    /// The file is there and is not what it should be.
    #[error("{} is broken ({reason}): delete it and run `make models` to fetch it again", .path.display())]
    Broken {
        /// The file that was read.
        path: PathBuf,
        /// What its reader said.
        reason: String,
    },
    /// The model is whole and lacks what is asked of it.
    #[error("the model has no such {0}")]
    Lacks(&'static str),
    /// The graph was loaded and failed on an input.
    #[error("the model failed: {0}")]
    Run(#[from] ort::Error),
}

impl ModelError {
    /// A `Broken` for the file, with its reader's complaint.
    pub fn broken(path: &Path, reason: impl ToString) -> Self {
        Self::Broken {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// The folder that `make models` fills: `$SALES_COACH_CACHE`, else `sales-coach` in
/// `$XDG_CACHE_HOME` or `~/.cache`.
pub fn cache_dir() -> PathBuf {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("SALES_COACH_CACHE").unwrap_or_else(|| {
        set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .unwrap_or_default()
            .join("sales-coach")
    })
}

/// The folder of the model of that name in the cache.
pub fn model_dir(cache: &Path, name: &str) -> PathBuf {
    cache.join("models").join(name)
}

/// Reads a model's companion file (vocabulary, labels).
///
/// # Errors
/// `Missing` or `Broken`, with the way out.
pub fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ModelError::Missing(path.to_owned()),
        _ => ModelError::broken(path, error),
    })
}

/// Opens a graph for use by one thread at a time, with the runtime of that cache.
///
/// # Errors
/// `Missing` or `Broken` for the graph or for the runtime's library, with the way out.
pub fn session(cache: &Path, path: &Path) -> Result<Session, ModelError> {
    if !path.is_file() {
        return Err(ModelError::Missing(path.to_owned()));
    }
    let environment = environment(cache)?;
    let open = || -> ort::Result<Session> {
        Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .commit_from_file(path)
    };
    open().map_err(|error| ModelError::broken(path, error))
}

/// The process's environment: the library is loaded at the first call that finds it.
fn environment(cache: &Path) -> Result<Environment, ModelError> {
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    let library = cache.join("onnxruntime/libonnxruntime.so");
    if !library.is_file() {
        return Err(ModelError::Missing(library));
    }
    let environment = ort::init_from(&library)
        .map_err(|error| ModelError::broken(&library, error))?
        .with_name("sales-coach")
        .with_telemetry(false)
        .build()?;
    Ok(slot.insert(environment).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_model_file_is_named_with_the_way_out() {
        let path = Path::new("/nowhere/encoder.onnx");
        let text = session(&cache_dir(), path).unwrap_err().to_string();
        assert!(text.contains("make models"), "{text}");
        assert!(text.contains("/nowhere/encoder.onnx is missing"), "{text}");
    }

    #[test]
    fn a_broken_model_file_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encoder.onnx");
        std::fs::write(&path, b"not a graph").unwrap();
        let text = session(&cache_dir(), &path).unwrap_err().to_string();
        assert!(text.contains("encoder.onnx is broken"), "{text}");
        assert!(text.contains("make models"), "{text}");
    }
}
