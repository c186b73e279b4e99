//! Nothing lost, nothing twice: the whole chain, every stage in processes of its own, on three real
//! brokers and a real database, while they are killed, frozen, cut off and rolled out; compared
//! with an undisturbed run of the same calls.
//!
//! `make faults RUNS=n SEED=s` plays n seeds from s on and prints a table; a seed that failed once
//! is played again with `RUNS=1 SEED=` that seed. `docs/operators.md` says what is promised.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checker;
mod crew;
mod inject;
mod load;
mod observe;
mod play;
mod recovery;
mod softphone;
mod stand;
mod table;
mod timeline;

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemas::EventId;

use checker::{Finding, Kind, Observed, compare};
use load::{Load, Sentence, Size, What};
use play::{Played, disturbed, undisturbed};
use stand::{Stand, call_id, event_id, sentences};
use table::Table;
use timeline::Timeline;

/// Runs on one cluster before it is replaced: what they leave behind slows it down.
const RUNS_A_STAND: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn a_struck_chain_loses_nothing_and_says_nothing_twice() {
    let table = runs(Size::SHORT, 1, 2).await;
    assert_eq!(table.failed(), [0_u64; 0], "{table}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as you like: make faults RUNS=n SEED=s"]
async fn many_runs() {
    let number = |name: &str, otherwise| {
        let text = std::env::var(name).unwrap_or_default();
        if text.is_empty() {
            return otherwise;
        }
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: a number is needed"))
    };
    let table = runs(Size::WHOLE, number("SEED", 1), number("RUNS", 5)).await;
    assert_eq!(table.failed(), [0_u64; 0], "see the timelines above");
}

/// Plays `count` seeds from `first` on.
async fn runs(size: Size, first: u64, count: u64) -> Table {
    harness::models();
    let sentences = sentences();
    let mut table = Table::default();
    let seeds: Vec<u64> = (first..first + count).collect();
    for some in seeds.chunks(RUNS_A_STAND) {
        let stand = Stand::start().await;
        for seed in some {
            run(&stand, *seed, size, &sentences, &mut table).await;
        }
    }
    println!("\n{table}");
    table
}

/// Plays one seed, undisturbed and struck, and compares.
async fn run(stand: &Stand, seed: u64, size: Size, sentences: &[Sentence], table: &mut Table) {
    let load = Load::draw(seed, size, sentences);
    let timeline = Timeline::draw(seed, size.within);
    let (records, keys) = stand.records(&load).await;
    let reference = undisturbed(stand, &keys, &records).await.observed;
    let mut findings = expected(&load, &reference);
    let played = disturbed(stand, &keys, &records, &timeline).await;
    findings.extend(compare(&reference, &played.observed));
    let of_load = [
        (
            "poison record",
            load.count(|what| matches!(what, What::Poison(_))),
        ),
        (
            "duplicated input",
            load.count(|what| matches!(what, What::Again(_))),
        ),
    ];
    table.add(seed, &played.recovered, &of_load, &findings);
    println!("seed {seed}: {} findings", findings.len());
    if !findings.is_empty() || std::env::var_os("KEEP").is_some() {
        let kept = keep(stand, seed, &timeline, &played, &findings);
        println!("{}", told(&timeline, &played, &findings));
        println!(
            "the timeline, and what each process logged: {}",
            kept.display()
        );
        println!("the same again: make faults RUNS=1 SEED={seed}");
    }
}

/// The load is known, and so is what must come of it whatever the stages think of its words: every
/// utterance once on the transcript and one insight for each. A reference that lacks something
/// would find no fault with a run that lacks the same.
fn expected(load: &Load, reference: &Observed) -> Vec<Finding> {
    let mut wanted = [
        ("calls.transcript", BTreeSet::new()),
        ("calls.insights", BTreeSet::new()),
    ];
    for call in 0..load.size.calls {
        for place in 0..=load.size.utterances + 1 {
            let said = event_id(&call_id(load.seed, call), place);
            wanted[0].1.insert(said.to_string());
            let found = EventId::derive("insights", &said.to_string(), 0);
            wanted[1].1.insert(found.to_string());
        }
    }
    let mut findings = Vec::new();
    for (topic, wanted) in wanted {
        let events = reference.topics.get(topic).into_iter().flatten();
        let got: BTreeSet<String> = events.map(|event| event.id.clone()).collect();
        for (kind, ids) in [
            (Kind::Lost, wanted.difference(&got)),
            (Kind::Foreign, got.difference(&wanted)),
        ] {
            findings.extend(ids.map(|id| Finding {
                kind,
                place: format!("{topic} of the undisturbed run"),
                what: id.clone(),
            }));
        }
    }
    let output = ["calls.insights", "coaching.tips"];
    for topic in output {
        let mut had = BTreeSet::new();
        let events = reference.topics.get(topic).into_iter().flatten();
        findings.extend(
            events
                .filter(|event| !had.insert(&event.id))
                .map(|event| Finding {
                    kind: Kind::Twice,
                    place: format!("{topic} of the undisturbed run"),
                    what: event.id.clone(),
                }),
        );
    }
    let open = reference
        .ledger
        .iter()
        .filter(|(_, status)| *status != "complete");
    findings.extend(open.map(|(call, status)| Finding {
        kind: Kind::Incomplete,
        place: "the ledger of the undisturbed run".to_owned(),
        what: format!("{call} is {status}"),
    }));
    findings
}

fn told(timeline: &Timeline, played: &Played, findings: &[Finding]) -> String {
    let drawn: Vec<String> = timeline.0.iter().map(ToString::to_string).collect();
    let recovered = played.recovered.iter().map(|one| match one.after {
        Some(after) => {
            let seconds = after.as_secs_f64();
            format!("{seconds:6.1} s  {} ({})", one.fault, one.slowest)
        }
        None => format!("       -  {}", one.fault),
    });
    let recovered: Vec<String> = recovered.collect();
    let first: Vec<String> = findings.iter().take(20).map(ToString::to_string).collect();
    format!(
        "drawn:\n{}\nas it went:\n{}\nrecovered:\n{}\nfound ({} in all):\n{}\n",
        drawn.join("\n"),
        played.journal.lines().join("\n"),
        recovered.join("\n"),
        findings.len(),
        first.join("\n")
    )
}

/// Keeps what tells about a run: one that failed, or any when the variable `KEEP` is set.
fn keep(
    stand: &Stand,
    seed: u64,
    timeline: &Timeline,
    played: &Played,
    findings: &[Finding],
) -> PathBuf {
    let folder = std::env::temp_dir().join(harness::unique(&format!("sales-coach-faults-{seed}")));
    std::fs::create_dir_all(&folder).unwrap();
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let text = told(timeline, played, findings);
    std::fs::write(folder.join("timeline.txt"), text).unwrap();
    std::fs::write(folder.join("findings.txt"), all.join("\n")).unwrap();
    for (name, log) in &played.logs {
        std::fs::write(folder.join(format!("{name}.log")), log).unwrap();
    }
    for broker in 1..=stand::BROKERS {
        let log = stand.kafka.folder().join(format!("broker-{broker}/log"));
        std::fs::copy(log, folder.join(format!("broker {broker}.log"))).unwrap();
    }
    folder
}
