//! Starts Kafka, PostgreSQL, a browser and a process and holds them until it is killed; says on standard output what it holds.
//! The harness's own test kills it.

use std::time::Duration;

#[tokio::main]
async fn main() {
    let kafka = harness::kafka().await;
    let postgres = harness::postgres().await;
    let process = harness::Process::spawn("sleep", &["1000"], &[]);
    let browser = harness::chromium().await;
    if let Some(browser) = &browser {
        println!("named {}", browser.profile().display());
    }
    println!("folder {}", kafka.folder().display());
    println!("folder {}", postgres.folder().display());
    for pid_file in [
        kafka.folder().join("broker-1/pid"),
        postgres.folder().join("pid"),
    ] {
        let content = std::fs::read_to_string(pid_file).unwrap_or_default();
        println!("process {}", content.split(' ').next().unwrap_or_default());
    }
    println!("process {}", process.id());
    println!("holding");
    tokio::time::sleep(Duration::from_secs(600)).await;
}
