//! What the gateway measures.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What the gateway measures.
#[derive(Clone)]
pub struct Metrics {
    /// Screens that are connected now.
    pub screens: IntGauge,
    /// Calls that are open now.
    pub calls: IntGauge,
    /// Tips dropped because their deadline had passed.
    pub tips_late: IntCounter,
    /// From the last word that caused a tip to the moment it goes out to a screen.
    pub tip_delivery: Histogram,
    /// Screens cut off because they were too slow.
    pub screens_cut_off: IntCounter,
    /// Records that have no place on a screen, by reason.
    pub skipped: IntCounterVec,
    /// Feedback taken, by action.
    pub feedback: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let buckets = vec![
            0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0,
        ];
        let delivery = HistogramOpts::new(
            "coach_gateway_tip_delivery_seconds",
            "from the last word that caused a tip to the tip on its way to the screen",
        );
        let metrics = Self {
            screens: IntGauge::new("coach_gateway_screens", "softphone panels connected now")?,
            calls: IntGauge::new("coach_gateway_calls", "calls open now")?,
            tips_late: IntCounter::new(
                "coach_gateway_tips_late_total",
                "tips dropped because their deadline had passed",
            )?,
            tip_delivery: Histogram::with_opts(delivery.buckets(buckets))?,
            screens_cut_off: IntCounter::new(
                "coach_gateway_screens_cut_off_total",
                "softphone panels cut off because they were too slow; they resume",
            )?,
            skipped: IntCounterVec::new(
                Opts::new(
                    "coach_gateway_records_skipped_total",
                    "records that have no place on a screen, by reason",
                ),
                &["reason"],
            )?,
            feedback: IntCounterVec::new(
                Opts::new("coach_gateway_feedback_total", "feedback taken, by action"),
                &["action"],
            )?,
        };
        registry.register(Box::new(metrics.screens.clone()))?;
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.tips_late.clone()))?;
        registry.register(Box::new(metrics.tip_delivery.clone()))?;
        registry.register(Box::new(metrics.screens_cut_off.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.feedback.clone()))?;
        Ok(metrics)
    }

    /// Counts a record that has no place on a screen.
    pub fn skip(&self, reason: &str) {
        self.skipped.with_label_values(&[reason]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_named_like_all_others_and_is_in_the_operators_manual() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operators.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        // A metric with a label shows once it has counted.
        metrics.skip("poison");
        metrics.feedback.with_label_values(&["used"]).inc();
        let families = registry.gather();
        assert_eq!(families.len(), 7);
        for family in families {
            let (name, help) = (family.name(), family.help());
            assert!(name.starts_with("coach_gateway_"), "{name}");
            let row = format!("| `{name}` | {help} |");
            assert!(manual.contains(&row), "missing in docs/operators.md: {row}");
        }
    }
}
