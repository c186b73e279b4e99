//! How fast notes get to a CRM: the figures of docs/figures.md.
//!
//! `cargo test --release --test crm_notes pace -- --ignored --nocapture`

use std::time::{Duration, Instant};

use schemas::{Crm, NoteResult};

use crate::scene::{Scene, org, portal};

const CALLS: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn pace_from_a_calls_end_to_its_note_one_call_at_a_time() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    let running = scene.run();
    scene.call("acme", "first").await;
    scene.results(NoteResult::Written, 1).await;
    for n in 0..200 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        scene.call("acme", &format!("call-{n}")).await;
    }
    let told = scene.results(NoteResult::Written, 201).await;
    let mut latencies: Vec<i64> = told
        .iter()
        .filter_map(|(_, note)| note.latency_ms)
        .collect();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share).round() as usize];
    println!(
        "call end to note, {} calls 150 ms apart: p50 {} ms, p95 {} ms, p99 {} ms",
        latencies.len(),
        at(0.5),
        at(0.95),
        at(0.99)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn pace_of_a_thousand_calls_that_wait() {
    for crm in [Crm::Hubspot, Crm::Salesforce] {
        let (scene, portal, org) = (Scene::new().await, portal().await, org().await);
        match crm {
            Crm::Hubspot => scene.on_hubspot("acme", &portal, "", "").await,
            Crm::Salesforce => scene.on_salesforce("acme", &org).await,
        }
        for n in 0..CALLS {
            scene.call("acme", &format!("call-{n}")).await;
        }
        let begun = Instant::now();
        let running = scene.run();
        scene.results(NoteResult::Written, CALLS).await;
        let took = begun.elapsed();
        let requests = match crm {
            Crm::Hubspot => portal.requests().len(),
            Crm::Salesforce => org.requests().len(),
        };
        println!(
            "{crm}: {CALLS} notes in {:.1} s with joining the group: {:.0} a minute, {requests} API calls",
            took.as_secs_f64(),
            CALLS as f64 * 60.0 / took.as_secs_f64()
        );
        running.stop().await;
    }
}
