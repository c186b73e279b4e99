use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the project's checkout.
pub fn checkout() -> PathBuf {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    room.ancestors().nth(2).unwrap_or(room).to_owned()
}

/// The folder for everything that set-up fetched.
///
/// # Panics
/// When neither `SALES_COACH_CACHE` nor `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(chosen) = variable("SALES_COACH_CACHE") {
        return chosen.into();
    }
    let base = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    match base {
        Some(base) => base.join("sales-coach"),
        None => panic!("no folder for the cache: set SALES_COACH_CACHE"),
    }
}

/// The folder of shared data (`SALES_COACH_SHARED`, else `../shared` beside the checkout).
///
/// None, with a printed word, when it is missing: what reads it is skipped then.
pub fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("SALES_COACH_SHARED") {
        Some(chosen) => chosen.into(),
        None => checkout().join("../shared"),
    };
    if !folder.is_dir() {
        eprintln!("skipped: no shared data in {}", folder.display());
        return None;
    }
    Some(folder)
}

/// What `make models` put into the cache.
#[derive(Clone, Debug)]
pub struct Models {
    /// ONNX Runtime's shared library.
    pub onnxruntime: PathBuf,
    /// Silero's voice activity model.
    pub silero_vad: PathBuf,
    /// The folder with Whisper base: two graphs, its tokenizer and its numbers.
    pub whisper: PathBuf,
    /// The folder with the insights model: graph, tokenizer and labels.
    pub insights: PathBuf,
}

/// Where the models lie.
///
/// # Panics
/// When one is missing.
pub fn models() -> Models {
    let cache = cache();
    let models = Models {
        onnxruntime: cache.join("onnxruntime/libonnxruntime.so"),
        silero_vad: cache.join("models/silero-vad/silero_vad.onnx"),
        whisper: cache.join("models/whisper-base"),
        insights: cache.join("models/insights"),
    };
    for path in [
        &models.onnxruntime,
        &models.silero_vad,
        &models.whisper,
        &models.insights,
    ] {
        assert!(
            path.exists(),
            "{} is missing: run `make models`",
            path.display()
        );
    }
    models
}

/// The Python that data teams' clients are tested with: `tests/python/requirements.txt` in an environment
/// in the cache, made when missing.
///
/// # Panics
/// When it cannot be made.
pub fn python() -> PathBuf {
    let script = checkout().join("scripts/venv");
    let output = Command::new(&script)
        .arg(checkout().join("tests/python/requirements.txt"))
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim_end().into()
        }
        Ok(output) => panic!("scripts/venv: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("scripts/venv did not start: {error}"),
    }
}
