//! What is left when the call is over.

use std::time::Duration;

use consumers::reporting;
use pipeline::Deps;

use super::screen::Screen;

/// How long the database may take to have the call's last rows.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until the call is in the database, then prints what came of it.
///
/// # Errors
/// When the database does not answer.
pub async fn print(screen: &Screen, deps: &Deps, call_id: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let summary = loop {
        let summary = reporting::summary(&deps.database, call_id).await?;
        let settled = !matches!(summary.status.as_str(), "" | "open");
        if settled || tokio::time::Instant::now() >= deadline {
            break summary;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("\n── The call is over ──────────────────────────────────────────────");
    println!("utterances   {}", screen.utterances);
    let kinds: Vec<String> = screen
        .objections
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let kinds = if kinds.is_empty() {
        "none".to_owned()
    } else {
        kinds.join(", ")
    };
    println!("objections   {kinds}");
    println!("tips         {}", screen.latencies.len());
    if let Some([p50, p95, p99]) = percentiles(&screen.latencies) {
        println!(
            "latency      p50 {p50:.2} s, p95 {p95:.2} s, p99 {p99:.2} s \
             (customer's last word to tip)"
        );
    }
    println!(
        "database     {} rows, the call is {}",
        summary.rows, summary.status
    );
    if !summary.missing.is_empty() {
        println!("missing      {}", summary.missing);
    }
    Ok(())
}

/// The 50th, 95th and 99th percentile in seconds, by nearest rank; none of nothing.
fn percentiles(latencies: &[Duration]) -> Option<[f64; 3]> {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let rank = |share: usize| {
        let index = (sorted.len() * share).div_ceil(100).max(1) - 1;
        sorted.get(index).map(Duration::as_secs_f64)
    };
    Some([rank(50)?, rank(95)?, rank(99)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let latencies: Vec<_> = (1..=100).rev().map(Duration::from_secs).collect();
        assert_eq!(percentiles(&latencies), Some([50.0, 95.0, 99.0]));
        assert_eq!(percentiles(&latencies[..1]), Some([100.0; 3]));
        assert_eq!(percentiles(&[]), None);
    }
}
