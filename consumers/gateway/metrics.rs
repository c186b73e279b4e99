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
            "gateway_tip_delivery_seconds",
            "From the last word that caused a tip to the tip on its way to the screen",
        );
        let metrics = Self {
            screens: IntGauge::new("gateway_screens", "Softphone panels connected now")?,
            calls: IntGauge::new("gateway_calls", "Calls open now")?,
            tips_late: IntCounter::new(
                "gateway_tips_late_total",
                "Tips dropped because their deadline had passed",
            )?,
            tip_delivery: Histogram::with_opts(delivery.buckets(buckets))?,
            screens_cut_off: IntCounter::new(
                "gateway_screens_cut_off_total",
                "Softphone panels cut off because they were too slow; they resume",
            )?,
            skipped: IntCounterVec::new(
                Opts::new(
                    "gateway_records_skipped_total",
                    "Records that have no place on a screen, by reason",
                ),
                &["reason"],
            )?,
            feedback: IntCounterVec::new(
                Opts::new("gateway_feedback_total", "Feedback taken, by action"),
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
