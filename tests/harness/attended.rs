use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{checkout, unique};

/// How long a script may take to clear away before it is killed itself.
const CLEAR_WITHIN: Duration = Duration::from_secs(15);

/// Servers run by `deploy/NAME/NAME up --attached`: it ends them and deletes their folder once the pipe
/// to its standard input closes, which the kernel sees to however this process ends.
///
/// Nothing in here belongs to a tokio runtime, so that tests with a runtime each can share it.
pub(crate) struct Attended {
    name: &'static str,
    folder: PathBuf,
    address: String,
    script: Mutex<Script>,
}

struct Script {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    errors: File,
}

impl Attended {
    /// Starts the servers and waits until they are ready.
    pub(crate) async fn start(name: &'static str, arguments: Vec<String>) -> Arc<Self> {
        blocking(move || Self::start_blocking(name, &arguments)).await
    }

    fn start_blocking(name: &'static str, arguments: &[String]) -> Result<Arc<Self>, String> {
        let folder = std::env::temp_dir().join(unique(&format!("sales-coach-{name}")));
        let errors = tempfile::tempfile().map_err(|error| error.to_string())?;
        let mut child = Command::new(checkout().join("deploy").join(name).join(name))
            .args(["up", "--attached", "--port", "0", "--dir"])
            .arg(&folder)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("deploy/{name}/{name} did not start: {error}"))?;
        let requests = child.stdin.take();
        let Some(answers) = child.stdout.take() else {
            return Err(format!("deploy/{name}/{name} has no output"));
        };
        let mut script = Script {
            child,
            requests,
            answers: BufReader::new(answers),
            errors,
        };
        let answer = script.answer()?;
        let Some(address) = answer.strip_prefix("ready ") else {
            return Err(answer);
        };
        Ok(Arc::new(Self {
            name,
            folder,
            address: address.to_owned(),
            script: Mutex::new(script),
        }))
    }

    /// Where the servers listen, as their script names it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The folder with the servers' files, pid files among them.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has the script `start`, `stop`, `kill`, `pause` or `resume` a server, and waits until that is done.
    pub(crate) async fn tell(self: &Arc<Self>, verb: &str, number: usize) {
        let (this, line) = (Arc::clone(self), format!("{verb} {number}\n"));
        blocking(move || {
            let mut script = this.script.lock().unwrap_or_else(PoisonError::into_inner);
            match script.ask(&line)? {
                answer if answer == "done" => Ok(()),
                answer => Err(format!("{}: {answer}", this.name)),
            }
        })
        .await
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        let script = self
            .script
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        script.end();
    }
}

impl Script {
    fn ask(&mut self, line: &str) -> Result<String, String> {
        if let Some(requests) = &mut self.requests {
            requests
                .write_all(line.as_bytes())
                .map_err(|error| error.to_string())?;
        }
        self.answer()
    }

    /// The next line the script says; what it wrote to standard error when it says no more.
    fn answer(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        if matches!(read, Ok(length) if length > 0) {
            return Ok(line.trim_end().to_owned());
        }
        self.end();
        let mut errors = String::new();
        let told = self
            .errors
            .rewind()
            .and_then(|()| self.errors.read_to_string(&mut errors));
        Err(told.map_or_else(|error| error.to_string(), |_| errors))
    }

    fn end(&mut self) {
        self.requests = None;
        let deadline = Instant::now() + CLEAR_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // Its servers ask the kernel to end them when it dies. An error means that it is gone.
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs what blocks off the async threads; panics with its error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => panic!("{error}"),
    }
}
