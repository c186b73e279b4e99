//! How far a replay is, on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pipeline::replay::session::Progress;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the bar moves, and how often a line is written where there is no terminal.
const MOVE: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(10);

/// Shows progress until it is dropped.
pub struct Bar {
    _shown: DropGuard,
}

/// Shows progress under this name.
pub fn show(progress: &Arc<Progress>, what: &'static str) -> Bar {
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let progress = Arc::clone(progress);
    tokio::spawn(async move {
        if std::io::stderr().is_terminal() {
            bar(&progress, what, &gone).await;
        } else {
            lines(&progress, what, &gone).await;
        }
    });
    Bar { _shown: guard }
}

async fn bar(progress: &Progress, what: &'static str, gone: &CancellationToken) {
    let bar = ProgressBar::new(progress.seen().1).with_message(what);
    let style = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    while gone
        .run_until_cancelled(tokio::time::sleep(MOVE))
        .await
        .is_some()
    {
        let (done, total) = progress.seen();
        bar.set_length(total);
        bar.set_position(done);
    }
    bar.finish_and_clear();
}

async fn lines(progress: &Progress, what: &'static str, gone: &CancellationToken) {
    while gone
        .run_until_cancelled(tokio::time::sleep(LINE))
        .await
        .is_some()
    {
        let (done, total) = progress.seen();
        eprintln!("coach: {what}: {done} of about {total} records");
    }
}
