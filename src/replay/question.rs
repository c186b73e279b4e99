//! Asks before anything live changes.

use std::io::{IsTerminal, Write};

use pipeline::replay::ReplayError;
use pipeline::replay::session::Progress;

/// Asks; anything but a clear yes means no, and so does Ctrl-C. Without a terminal nobody is there
/// to ask.
///
/// # Errors
/// [`ReplayError::Stopped`] when the answer is no; [`ReplayError::Cancelled`] when someone cancels the
/// replay meanwhile.
pub async fn ask(question: &str, yes: bool, progress: &Progress) -> Result<(), ReplayError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("coach: {question} Nobody is there to ask: --yes answers yes");
        return Err(ReplayError::Stopped);
    }
    eprint!("{question} [y/N] ");
    // A terminal that takes no question takes no answer either.
    let _ = std::io::stderr().flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    match progress.unless_stopped(answer).await? {
        Ok(Ok(line)) if matches!(line.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(ReplayError::Stopped),
    }
}
