//! Config section `[runner]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Config section `[runner]`: how stages and sinks are run. The defaults suit most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A name for this process that stays the same when it is started again, and that no other
    /// has. With it a process that was killed takes its partitions back at once; without, others
    /// take them over when its session has timed out.
    pub instance: Option<String>,
    /// Calls of a stage that are processed side by side.
    pub concurrency: usize,
    /// Records read and not yet committed, at most.
    pub window: usize,
    /// Records in one transaction, or in one write of a sink, at most.
    pub batch: usize,
    /// How long offsets of records that gave nothing may wait to be committed, in milliseconds.
    pub commit_ms: u64,
    /// A call that nothing came for is forgotten after this time between its records, in seconds.
    pub call_timeout_s: u64,
    /// So many poison records among twice as many stop the stage.
    pub poison_limit: usize,
    /// First pause before a transient error's next try, in milliseconds.
    pub retry_ms: u64,
    /// Longest such pause, in milliseconds.
    pub retry_max_ms: u64,
    /// How long records in work may take to finish when partitions are handed over or the process
    /// stops, in milliseconds; then they are left to whoever comes next.
    pub drain_ms: u64,
    /// Records waiting and none finished for so long: the stage is stuck, in seconds.
    pub stuck_s: u64,
    /// After this long without a heartbeat the group takes this process for dead, in
    /// milliseconds.
    pub session_timeout_ms: u64,
    /// After this long the brokers abort a transaction left open by a killed process, in
    /// milliseconds.
    pub transaction_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instance: None,
            concurrency: 16,
            window: 2_000,
            batch: 500,
            commit_ms: 500,
            call_timeout_s: 4 * 60 * 60,
            poison_limit: 100,
            retry_ms: 100,
            retry_max_ms: 10_000,
            drain_ms: 5_000,
            stuck_s: 120,
            session_timeout_ms: 10_000,
            transaction_timeout_ms: 10_000,
        }
    }
}

impl Settings {
    pub(crate) fn commit_after(&self) -> Duration {
        Duration::from_millis(self.commit_ms)
    }
}
