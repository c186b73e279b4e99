//! `coach token`: a token with which a rep's softphone connects.

use std::path::Path;
use std::process::ExitCode;

use consumers::gateway;

use crate::start;

/// Prints a token with which a rep's softphone connects to the gateway.
///
/// Open the panel as https://GATEWAY/#token=TOKEN; the page trades it for a cookie at once.
#[derive(clap::Args)]
pub struct Args {
    /// Customer organisation
    #[arg(long)]
    tenant: String,
    /// Id of the rep
    #[arg(long)]
    rep: String,
    /// How long it is good for, for example 12h
    #[arg(long, default_value = "12h", value_parser = humantime::parse_duration)]
    lifetime: std::time::Duration,
}

/// Prints the token.
///
/// # Errors
/// When `[gateway] token_secret` is not configured.
pub fn run(args: &Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings: gateway::Settings = start::config(path)?.section("gateway")?;
    let secret = settings.token_secret.reveal();
    println!(
        "{}",
        gateway::mint_token(secret, &args.tenant, &args.rep, args.lifetime)?
    );
    Ok(ExitCode::SUCCESS)
}
