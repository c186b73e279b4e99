//! Exactly once, on real Kafka: whatever happens to a stage, its output is that of an undisturbed
//! run, none lost and none twice.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod at_least_once;
mod disturbed;
mod orderly;
mod pace;
mod readiness;
mod registry;
mod replayed;
mod scene;
mod sinks;
mod stages;

use std::io::Write;

use scene::TOLD;

/// Not a test: the stage in a process of its own that the tests start, kill and freeze.
#[test]
#[ignore = "the tests run it in a process of its own"]
fn stage_process() {
    let Ok(told) = std::env::var(TOLD) else {
        return;
    };
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let kafka = serde_json::from_value(told["kafka"].clone()).unwrap();
    let settings = serde_json::from_value(told["settings"].clone()).unwrap();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(async {
        let stop = tokio_util::sync::CancellationToken::new();
        let token = stop.clone();
        let mut terminated =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        tokio::spawn(async move {
            terminated.recv().await;
            token.cancel();
        });
        let deps = scene::deps(schemas::Codec::new().unwrap().into());
        let stage = stages::Counter::default();
        pipeline::runner::run(stage, &kafka, &settings, &deps, stop).await
    });
    std::io::stderr().flush().unwrap();
    result.unwrap();
}
