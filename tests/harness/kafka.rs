use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::attended::Attended;
use crate::{Wire, free_port};

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

    /// Starts brokers with other ways to them beside the straight one, each over wires of its own: a client that is
    /// given [`Way::bootstrap`] reaches every broker over that way's wires only.
    ///
    /// # Panics
    /// When they do not start.
    pub async fn start_with_ways(brokers: usize, ways: usize) -> (Self, Vec<Way>) {
        let told: Vec<Vec<u16>> = (0..ways)
            .map(|_| (0..brokers).map(|_| free_port()).collect())
            .collect();
        let mut arguments = vec!["--brokers".to_owned(), brokers.to_string()];
        for ports in &told {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            arguments.extend(["--way".to_owned(), ports.join(",")]);
        }
        let kafka = Self {
            brokers: Attended::start("kafka", arguments).await,
        };
        let known = std::fs::read(kafka.folder().join("cluster.json"));
        let cluster: Result<Cluster, _> = known
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        let cluster = cluster.unwrap_or_else(|error| panic!("cluster.json: {error}"));
        let mut made = Vec::new();
        for way in cluster.ways {
            let mut wires = Vec::new();
            for (told, port) in way.told.into_iter().zip(way.ports) {
                wires.push(Wire::listen(told, port).await);
            }
            made.push(Way { wires });
        }
        (kafka, made)
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

/// What `deploy/kafka` notes of a cluster's ways.
#[derive(serde::Deserialize)]
struct Cluster {
    ways: Vec<Ports>,
}

/// Where clients are told to find each broker, and where it listens for them.
#[derive(serde::Deserialize)]
struct Ports {
    told: Vec<u16>,
    ports: Vec<u16>,
}

/// One way to all brokers of a cluster.
pub struct Way {
    /// A wire to each broker, in their order.
    pub wires: Vec<Wire>,
}

impl Way {
    /// The addresses for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let addresses = self.wires.iter().map(Wire::address);
        addresses.collect::<Vec<_>>().join(",")
    }
}

/// The one broker that all tests of this process share; started by the first that asks.
///
/// A test that kills or stops brokers starts its own with [`Kafka::start`].
pub async fn kafka() -> &'static Kafka {
    static SHARED: OnceCell<Kafka> = OnceCell::const_new();
    SHARED.get_or_init(|| Kafka::start(1)).await
}
