use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::attended::Attended;

/// A real Apache Kafka cluster on 127.0.0.1, empty at the start, gone when dropped or when this process ends.
///
/// Brokers are numbered from 1. Topics are not created by use: create them, under [`crate::unique`] names
/// where the cluster is shared.
pub struct Kafka {
    brokers: Arc<Attended>,
}

impl Kafka {
    /// Starts one to three brokers and waits until they serve, which takes some 5 to 15 seconds.
    ///
    /// # Panics
    /// When they do not start; the text holds the end of the broker's log.
    pub async fn start(brokers: usize) -> Self {
        let arguments = vec!["--brokers".to_owned(), brokers.to_string()];
        Self {
            brokers: Attended::start("kafka", arguments).await,
        }
    }

    /// The addresses for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        self.brokers.address()
    }

    /// The cluster's folder: `broker-N/log` is the broker's log, `broker-N/pid` its process id and start time.
    pub fn folder(&self) -> &Path {
        self.brokers.folder()
    }

    /// Ends a broker with SIGKILL; its data stays.
    pub async fn kill_broker(&self, number: usize) {
        self.brokers.tell("kill", number).await;
    }

    /// Stops a broker in good order; its data stays.
    pub async fn stop_broker(&self, number: usize) {
        self.brokers.tell("stop", number).await;
    }

    /// Starts a killed or stopped broker on its old port and data and waits until it serves.
    pub async fn start_broker(&self, number: usize) {
        self.brokers.tell("start", number).await;
    }

    /// Freezes a broker (SIGSTOP): it keeps its connections and answers nothing.
    pub async fn pause_broker(&self, number: usize) {
        self.brokers.tell("pause", number).await;
    }

    /// Lets a frozen broker go on.
    pub async fn resume_broker(&self, number: usize) {
        self.brokers.tell("resume", number).await;
    }
}

/// The one broker that all tests of this process share; started by the first that asks.
///
/// A test that kills or stops brokers starts its own with [`Kafka::start`].
pub async fn kafka() -> &'static Kafka {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    SHARED.get_or_init(|| Kafka::start(1)).await
}
