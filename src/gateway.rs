//! `coach gateway`: serves softphones.

use std::path::Path;
use std::process::ExitCode;

/// Serves softphones: tips out as server-sent events, feedback in, and the schemas over the
/// registry's read API. The same as `coach run gateway`.
#[derive(clap::Args)]
pub struct Args {}

/// Serves until a signal.
///
/// # Errors
/// When it cannot be configured, or Kafka refuses.
pub async fn run(_: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    crate::run::stages(&["gateway".to_owned()], path).await
}
