//! The metrics of write-back.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// The metrics of write-back.
#[derive(Clone)]
pub struct Metrics {
    /// What became of notes.
    pub notes: IntCounterVec,
    /// From what asked for a note to the CRM's answer.
    pub latency: HistogramVec,
    /// API calls by the answer's status.
    pub calls: IntCounterVec,
    /// Connections that nothing is sent to.
    pub stopped: IntGaugeVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let latency = HistogramOpts::new(
            "coach_crm_note_seconds",
            "time from the event that asked for a note to the CRM's answer",
        )
        .buckets(prometheus::exponential_buckets(0.05, 2.0, 16)?);
        let metrics = Self {
            notes: IntCounterVec::new(
                Opts::new(
                    "coach_crm_notes_total",
                    "notes, by CRM and what became of them",
                ),
                &["crm", "result"],
            )?,
            latency: HistogramVec::new(latency, &["crm"])?,
            calls: IntCounterVec::new(
                Opts::new(
                    "coach_crm_calls_total",
                    "calls of CRMs' APIs, by the answer's status",
                ),
                &["crm", "status"],
            )?,
            stopped: IntGaugeVec::new(
                Opts::new(
                    "coach_crm_stopped",
                    "1 while nothing is sent to a tenant's CRM, for a reason such as daily",
                ),
                &["tenant", "crm", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.notes.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.stopped.clone()))?;
        Ok(metrics)
    }
}
