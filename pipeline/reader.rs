//! Reads topics without a consumer group: for `coach tail`, the gateway and the demo.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::error::KafkaError;
use schemas::{AnyEvent, Codec, Topic};

use crate::{Envelope, Kafka, Origin, Poison};

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest record of each partition.
    Beginning,
    /// After the newest record of each partition.
    End,
    /// At the first record of each partition stamped at or after this time, in milliseconds since
    /// 1970.
    Time(i64),
    /// At this offset of each partition.
    Offset(i64),
    /// At the offset given for a topic on the broker and partition; elsewhere at the end.
    Positions(BTreeMap<(String, i32), i64>),
}

/// Why there is no next event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// This record is no event; reading goes on with the next.
    #[error("{}/{}/{}: {poison}", origin.topic, origin.partition, origin.offset)]
    Poison {
        /// Where the record lies.
        origin: Origin,
        /// What is wrong with it.
        poison: Poison,
    },
    /// Kafka refused for good.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The reader has ended.
    #[error("the reader has ended")]
    Ended,
}

/// Reads every partition of some topics.
pub struct Reader {
    caught_up: bool,
}

impl Reader {
    /// Begins to read; waits for the brokers.
    ///
    /// # Errors
    /// [`ReadError::Kafka`] when a topic does not exist or the settings are wrong.
    pub async fn open(
        kafka: &Kafka,
        codec: Arc<Codec>,
        topics: &[Topic],
        from: From,
    ) -> Result<Self, ReadError> {
        let _ = (kafka, codec, topics, from);
        Ok(Self { caught_up: false })
    }

    /// The next event. Cancel-safe: a future that is dropped loses none.
    ///
    /// # Errors
    /// [`ReadError::Poison`] for a record that is no event, after which reading goes on; any other
    /// ends the reader.
    pub async fn next(&mut self) -> Result<Envelope<AnyEvent>, ReadError> {
        Err(ReadError::Ended)
    }

    /// Whether everything that was there when the reader was opened has been read.
    pub fn caught_up(&self) -> bool {
        self.caught_up
    }
}
