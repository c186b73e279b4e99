//! What the runner measures of a stage.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::metrics;

/// The standard metrics of one stage or sink.
pub(crate) struct Measures {
    pub records: IntCounterVec,
    pub events: IntCounter,
    pub retries: IntCounter,
    pub rebuilt: IntCounter,
    pub processing: Histogram,
    pub record_age: Histogram,
    pub event_age: Histogram,
    pub transaction: Histogram,
    pub transaction_records: Histogram,
    pub transactions_failed: IntCounter,
    pub open_calls: IntGauge,
    pub expired_calls: IntCounter,
    pub lag: IntGaugeVec,
    pub rebuild: Histogram,
}

impl Measures {
    pub fn register(registry: &Registry, stage: &str) -> Result<Self, prometheus::Error> {
        let counter = |metric: metrics::Metric| -> Result<IntCounter, prometheus::Error> {
            metric
                .counter(registry, stage)?
                .get_metric_with_label_values::<&str>(&[])
        };
        let histogram = |metric: metrics::Metric, first| -> Result<Histogram, prometheus::Error> {
            metric
                .histogram(registry, stage, first)?
                .get_metric_with_label_values::<&str>(&[])
        };
        Ok(Self {
            records: metrics::RECORDS.counter(registry, stage)?,
            events: counter(metrics::EVENTS)?,
            retries: counter(metrics::RETRIES)?,
            rebuilt: counter(metrics::REBUILT)?,
            processing: histogram(metrics::PROCESSING, 0.000_1)?,
            record_age: histogram(metrics::RECORD_AGE, 0.001)?,
            event_age: histogram(metrics::EVENT_AGE, 0.001)?,
            transaction: histogram(metrics::TRANSACTION, 0.001)?,
            transaction_records: histogram(metrics::TRANSACTION_RECORDS, 1.0)?,
            transactions_failed: counter(metrics::TRANSACTIONS_FAILED)?,
            open_calls: metrics::OPEN_CALLS
                .gauge(registry, stage)?
                .get_metric_with_label_values::<&str>(&[])?,
            expired_calls: counter(metrics::EXPIRED_CALLS)?,
            lag: metrics::LAG.gauge(registry, stage)?,
            rebuild: histogram(metrics::REBUILD, 0.001)?,
        })
    }

    pub fn count(&self, outcome: &str, reason: &str) {
        self.records.with_label_values(&[outcome, reason]).inc();
    }
}

/// Seconds since a time in milliseconds since 1970; 0 for a time to come.
pub(crate) fn age(millis: i64) -> f64 {
    let then = UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    SystemTime::now()
        .duration_since(then)
        .map_or(0.0, |age| age.as_secs_f64())
}
