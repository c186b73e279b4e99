//! The table over all runs: fault, how often, what was lost and what came twice, and how fast the
//! chain was back when no other fault struck before it was.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::checker::{Finding, Kind};
use crate::play::Recovered;

/// What all runs together gave.
#[derive(Default)]
pub struct Table {
    runs: usize,
    failed: Vec<u64>,
    rows: BTreeMap<&'static str, Row>,
    stages: Vec<Duration>,
    brokers: Vec<Duration>,
}

#[derive(Default)]
struct Row {
    times: usize,
    lost: usize,
    twice: usize,
    recovered: Vec<Duration>,
}

impl Table {
    /// Adds a run; `of_load` are the faults that lie in the load itself and how many of them.
    pub fn add(
        &mut self,
        seed: u64,
        recovered: &[Recovered],
        of_load: &[(&'static str, usize)],
        findings: &[Finding],
    ) {
        self.runs += 1;
        if !findings.is_empty() {
            self.failed.push(seed);
        }
        let of = |kind| {
            findings
                .iter()
                .filter(|finding| finding.kind == kind)
                .count()
        };
        let (lost, twice) = (of(Kind::Lost), of(Kind::Twice));
        // Which of a run's faults it was cannot be told: each gets the blame.
        let mut struck: Vec<&'static str> = Vec::new();
        for one in recovered {
            let row = self.rows.entry(one.fault.name()).or_default();
            row.times += 1;
            struck.push(one.fault.name());
            let Some(after) = one.after.filter(|_| one.alone) else {
                continue;
            };
            row.recovered.push(after);
            let of_kind = if one.fault.is_of_broker() {
                &mut self.brokers
            } else {
                &mut self.stages
            };
            of_kind.push(after);
        }
        for (name, times) in of_load {
            self.rows.entry(name).or_default().times += times;
            struck.push(name);
        }
        struck.sort_unstable();
        struck.dedup();
        for name in struck {
            let row = self.rows.entry(name).or_default();
            row.lost += lost;
            row.twice += twice;
        }
    }

    /// Seeds of the runs that failed.
    pub fn failed(&self) -> &[u64] {
        &self.failed
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} failed: {:?}\n",
            self.runs,
            self.failed.len(),
            self.failed
        )?;
        writeln!(
            f,
            "| fault | times | lost | twice | alone | recovery p50 | p95 | max |"
        )?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
        for (name, row) in &self.rows {
            let (lost, twice, alone) = (row.lost, row.twice, row.recovered.len());
            let quantiles = quantiles(&row.recovered);
            writeln!(
                f,
                "| {name} | {} | {lost} | {twice} | {alone} | {quantiles} |",
                row.times
            )?;
        }
        writeln!(
            f,
            "| **every fault but brokers'** | | | | | {} |",
            quantiles(&self.stages)
        )?;
        write!(f, "| **brokers** | | | | | {} |", quantiles(&self.brokers))
    }
}

/// p50, p95 and the longest, in seconds.
fn quantiles(durations: &[Duration]) -> String {
    let mut sorted = durations.to_vec();
    sorted.sort();
    let at = |share: f64| {
        let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
        let found = sorted.get(index);
        found.map_or("-".to_owned(), |time| {
            format!("{:.1} s", time.as_secs_f64())
        })
    };
    format!("{} | {} | {}", at(0.5), at(0.95), at(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Fault, Slot};

    #[test]
    fn the_table_counts_faults_blames_each_of_the_run_and_names_its_seed() {
        let slot = Slot {
            stage: "insights",
            instance: 0,
        };
        let recovered = |seconds: &[u64]| -> Vec<Recovered> {
            let seconds = seconds.iter();
            seconds
                .map(|s| Recovered {
                    fault: Fault::Kill(slot),
                    after: Some(Duration::from_secs(*s)),
                    slowest: String::new(),
                    alone: true,
                })
                .collect()
        };
        let mut table = Table::default();
        table.add(7, &recovered(&[1, 2, 3]), &[("poison", 5)], &[]);
        let lost = Finding {
            kind: Kind::Lost,
            place: "calls.insights".into(),
            what: "x".into(),
        };
        table.add(8, &recovered(&[9]), &[], &[lost]);
        let text = table.to_string();
        assert!(text.starts_with("2 runs, 1 failed: [8]"), "{text}");
        assert!(
            text.contains("| stage killed | 4 | 1 | 0 | 4 | 3.0 s | 9.0 s | 9.0 s |"),
            "{text}"
        );
        assert!(
            text.contains("| poison | 5 | 0 | 0 | 0 | - | - | - |"),
            "{text}"
        );
    }
}
