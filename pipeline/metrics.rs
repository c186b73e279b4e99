//! Every metric of the product: its name, what it tells, its labels. A test compares this table
//! with the operators' manual.

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets,
};

/// One row: a metric's name, help text and labels. All metrics of stages also carry `stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// What it tells, with its unit.
    pub help: &'static str,
    /// Labels beside `stage`.
    pub labels: &'static [&'static str],
}

/// Records that were finished, by what became of them.
pub const RECORDS: Metric = Metric {
    name: "coach_records_total",
    help: "records finished, by outcome (emitted, skipped, dead_lettered, written) and reason",
    labels: &["outcome", "reason"],
};
/// Events written.
pub const EVENTS: Metric = Metric {
    name: "coach_events_total",
    help: "events written to the output topic",
    labels: &[],
};
/// Tries after a transient error.
pub const RETRIES: Metric = Metric {
    name: "coach_retries_total",
    help: "tries again after a transient error",
    labels: &[],
};
/// Records replayed to rebuild state.
pub const REBUILT: Metric = Metric {
    name: "coach_rebuilt_records_total",
    help: "records replayed into state after a start or rebalance, without output",
    labels: &[],
};
/// Time a stage spends on a record.
pub const PROCESSING: Metric = Metric {
    name: "coach_processing_seconds",
    help: "time the stage spent on a record, retries included",
    labels: &[],
};
/// Age of records when taken up.
pub const RECORD_AGE: Metric = Metric {
    name: "coach_record_age_seconds",
    help: "time from a record's timestamp to when the stage took it up",
    labels: &[],
};
/// Age of events when their output was committed.
pub const EVENT_AGE: Metric = Metric {
    name: "coach_event_age_seconds",
    help: "time from when something happened on the line to when what the stage made of it was committed",
    labels: &[],
};
/// Time of a transaction.
pub const TRANSACTION: Metric = Metric {
    name: "coach_transaction_seconds",
    help: "time of a transaction, or of a sink's write and commit",
    labels: &[],
};
/// Size of a transaction.
pub const TRANSACTION_RECORDS: Metric = Metric {
    name: "coach_transaction_records",
    help: "records read in a transaction, or in a sink's write",
    labels: &[],
};
/// Transactions thrown away.
pub const TRANSACTIONS_FAILED: Metric = Metric {
    name: "coach_transactions_failed_total",
    help: "transactions thrown away; their records were processed again",
    labels: &[],
};
/// Open calls.
pub const OPEN_CALLS: Metric = Metric {
    name: "coach_open_calls",
    help: "calls that started and have not ended",
    labels: &[],
};
/// Calls forgotten.
pub const EXPIRED_CALLS: Metric = Metric {
    name: "coach_expired_calls_total",
    help: "calls forgotten because nothing came for the call timeout",
    labels: &[],
};
/// Lag.
pub const LAG: Metric = Metric {
    name: "coach_lag_records",
    help: "offsets between what was read and what is committed on the topic",
    labels: &["topic", "partition"],
};
/// Time to rebuild state.
pub const REBUILD: Metric = Metric {
    name: "coach_rebuild_seconds",
    help: "time from a partition's assignment until the state of its open calls was rebuilt",
    labels: &[],
};

/// The metrics of stages and sinks.
pub const ALL: &[Metric] = &[
    RECORDS,
    EVENTS,
    RETRIES,
    REBUILT,
    PROCESSING,
    RECORD_AGE,
    EVENT_AGE,
    TRANSACTION,
    TRANSACTION_RECORDS,
    TRANSACTIONS_FAILED,
    OPEN_CALLS,
    EXPIRED_CALLS,
    LAG,
    REBUILD,
];

impl Metric {
    /// This metric as a counter of `stage`, registered.
    ///
    /// # Errors
    /// When the row is no valid metric.
    pub fn counter(
        &self,
        registry: &Registry,
        stage: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let opts = Opts::new(self.name, self.help).const_label("stage", stage);
        registered(registry, IntCounterVec::new(opts, self.labels)?)
    }

    /// This metric as a gauge of `stage`, registered.
    ///
    /// # Errors
    /// When the row is no valid metric.
    pub fn gauge(
        &self,
        registry: &Registry,
        stage: &str,
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let opts = Opts::new(self.name, self.help).const_label("stage", stage);
        registered(registry, IntGaugeVec::new(opts, self.labels)?)
    }

    /// This metric as a histogram of `stage` with buckets doubling from `first`, registered.
    ///
    /// # Errors
    /// When the row is no valid metric.
    pub fn histogram(
        &self,
        registry: &Registry,
        stage: &str,
        first: f64,
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(self.name, self.help)
            .const_label("stage", stage)
            .buckets(exponential_buckets(first, 2.0, 16)?);
        registered(registry, HistogramVec::new(opts, self.labels)?)
    }
}

/// Registers; takes the place of the same stage's metric of an earlier run in this process.
fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    let first = registry.register(Box::new(collector.clone()));
    if matches!(first, Err(prometheus::Error::AlreadyReg)) {
        registry.unregister(Box::new(collector.clone()))?;
        registry.register(Box::new(collector.clone()))?;
    } else {
        first?;
    }
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_share_a_registry_and_a_second_run_takes_the_place_of_the_first() {
        let registry = Registry::new();
        for stage in ["one", "two", "one"] {
            let counter = RECORDS.counter(&registry, stage).unwrap();
            counter.with_label_values(&["skipped", "duplicate"]).inc();
        }
        let families = registry.gather();
        assert_eq!(families.len(), 1);
        assert_eq!(families[0].get_metric().len(), 2);
    }

    #[test]
    fn every_metric_is_in_the_operators_manual() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operators.md");
        let manual = std::fs::read_to_string(path).unwrap();
        for metric in ALL {
            let row = format!("| `{}` | {} |", metric.name, metric.help);
            assert!(manual.contains(&row), "missing in docs/operators.md: {row}");
        }
    }
}
