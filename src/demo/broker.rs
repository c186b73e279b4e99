//! The embedded broker: librdkafka's own in-process cluster. Real Kafka protocol, in memory, gone
//! at the end; no transactions, which is why the demo runs at least once.

use pipeline::Kafka;
use pipeline::topics;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Partitions a topic has in the demo: a call needs one.
const PARTITIONS: i32 = 2;

/// Starts the broker and makes the topics.
///
/// # Errors
/// When no local port can be had.
pub fn start() -> anyhow::Result<MockCluster<'static, DefaultProducerContext>> {
    let cluster = MockCluster::new(1)?;
    for topic in topics::wanted(&Kafka::default()) {
        cluster.create_topic(&topic.name, PARTITIONS, 1)?;
    }
    Ok(cluster)
}
