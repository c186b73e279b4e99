use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::eventually;

/// What [`Process::signal`] can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End at once, without a chance to tidy up.
    Kill,
    /// End in good order.
    Term,
    /// What Ctrl-C sends.
    Interrupt,
    /// Freeze.
    Stop,
    /// Go on after a freeze.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Term => "TERM",
            Self::Interrupt => "INT",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

/// A program under test in a process of its own, killed when dropped or when this process ends.
///
/// What it writes to standard output and standard error is kept apart and readable at any time. Dropped by a panicking
/// test it shows the end of both.
pub struct Process {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
}

impl Process {
    /// Starts `program` (for the command line: `env!("CARGO_BIN_EXE_coach")`) with no standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::try_spawn(program, arguments, environment)
            .unwrap_or_else(|error| panic!("{program} did not start: {error}"))
    }

    fn try_spawn(
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> std::io::Result<Self> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig=KILL", "--", program])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        Ok(Self {
            name: program.to_owned(),
            child: spawn_for_good(command)?,
            stdout,
            stderr,
        })
    }

    /// The process id; stays this process's own until it is dropped.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&self, signal: Signal) {
        // The shell's own `kill` is on every machine; the standard library can send SIGKILL only.
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", signal.name()])
            .arg(self.id().to_string())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = sent {
            panic!("sending {signal:?} to {}: {error}", self.name);
        }
    }

    /// What the process has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What the process has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// The exit status, once the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        match self.child.try_wait() {
            Ok(status) => status,
            Err(error) => panic!("asking for {}: {error}", self.name),
        }
    }

    /// Waits until the process ends by itself; panics after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(deadline, &what, async || self.exited()).await
    }

    /// Ends the process with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            eprintln!("{} wrote to standard output:\n{}", self.name, tail(&stdout));
            eprintln!("{} wrote to standard error:\n{}", self.name, tail(&stderr));
        }
    }
}

/// True while a process with this id exists and is no mere zombie.
pub fn alive(id: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
        return false;
    };
    // The state follows the name, which is in brackets and may hold anything.
    !matches!(status.rsplit_once(") "), Some((_, rest)) if rest.starts_with('Z'))
}

/// Spawns from a thread that never ends, because the kernel kills such a child when the thread that spawned it does.
fn spawn_for_good(command: Command) -> std::io::Result<Child> {
    type Request = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Request>>> = LazyLock::new(|| {
        let (requests, wanted) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in wanted {
                // Whoever asked waits for the answer.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let (answer, spawned) = mpsc::channel();
    let requests = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = requests.send((command, answer));
    asked.map_err(std::io::Error::other)?;
    spawned.recv().map_err(std::io::Error::other)?
}

/// The whole file, read without moving the position that the process writes at.
fn read(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65536];
    while let Ok(length) = file.read_at(&mut chunk, bytes.len() as u64) {
        if length == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
