//! Writes events outside of a stage: producers of calls, and the gateway's feedback.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::ToBytes;
use rdkafka::producer::future_producer::{Delivery as Written, OwnedDeliveryResult};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use schemas::{AnyEvent, Codec, CodecError, Event, Item};

use crate::dead_letter::{OutRecord, RawRecord, letter};
use crate::kafka::Quiet;
use crate::{Envelope, Kafka, Origin, Poison, TraceContext, headers};

/// How long to wait for a broker before saying so, each time.
const SAY_SO_AFTER: Duration = Duration::from_secs(5);
/// Pause before asking a full queue again.
const QUEUE_FULL: Duration = Duration::from_millis(20);

/// Why an event was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The event does not fit its schema.
    #[error("encode: {0}")]
    Encode(#[from] CodecError),
    /// The broker refused the record, or the producer cannot go on.
    #[error("produce to {topic}: {error}")]
    Refused {
        /// Topic on the broker.
        topic: String,
        /// What the broker or client said.
        error: KafkaError,
    },
    /// The client could not be made: its settings are wrong.
    #[error("kafka settings: {0}")]
    Settings(#[source] KafkaError),
}

/// An idempotent producer, acknowledged by all replicas. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    kafka: Kafka,
    codec: Arc<Codec>,
    client: FutureProducer<Quiet>,
}

impl Producer {
    /// A producer for all topics. Does not wait for a broker.
    ///
    /// # Errors
    /// [`ProduceError::Settings`].
    pub fn new(kafka: &Kafka, codec: Arc<Codec>) -> Result<Self, ProduceError> {
        // Without a time limit librdkafka itself tries again for as long as it takes, in order.
        let client = kafka
            .producer(&[
                ("message.timeout.ms", "0"),
                ("message.max.bytes", "2097152"),
            ])
            .create_with_context(Quiet)
            .map_err(ProduceError::Settings)?;
        Ok(Self {
            kafka: kafka.clone(),
            codec,
            client,
        })
    }

    /// Writes an event to its topic under its call's key, and returns where it lies once the
    /// broker has it. Waits out brokers that are away and says so in the log; drop the future to
    /// give up waiting. Events sent one after the other stay in order.
    ///
    /// # Errors
    /// [`ProduceError`]; none of them is mended by trying again.
    pub async fn send<T: Item>(
        &self,
        event: &Event<T>,
        trace: &TraceContext,
    ) -> Result<Origin, ProduceError> {
        let payload = self.codec.encode(event)?;
        let topic = self.kafka.topic(&T::TOPIC);
        let record = FutureRecord::to(&topic)
            .key(&event.head.call_id)
            .payload(&payload)
            .headers(headers::with_trace(trace));
        self.write(record, &topic).await
    }

    /// Writes an event that no retry can help to its topic's dead letters, with where it came from
    /// and why `stage` gave it up; returns once the broker has it.
    ///
    /// # Errors
    /// [`ProduceError`]; none of them is mended by trying again.
    pub async fn bury<T: Item>(
        &self,
        event: &Event<T>,
        came: &Envelope<AnyEvent>,
        stage: &str,
        poison: &Poison,
    ) -> Result<(), ProduceError> {
        let raw = RawRecord {
            origin: came.origin.clone(),
            timestamp: came.timestamp,
            key: Some(event.head.call_id.clone().into_bytes()),
            payload: Some(self.codec.encode(event)?),
            headers: headers::with_trace(&came.trace),
        };
        let dead = self.kafka.dead(&T::TOPIC);
        self.send_record(letter(raw, &dead, stage, poison)).await?;
        Ok(())
    }

    /// Writes a record as it is.
    pub(crate) async fn send_record(&self, record: OutRecord) -> Result<Origin, ProduceError> {
        let mut sending =
            FutureRecord::<Vec<u8>, Vec<u8>>::to(&record.topic).headers(record.headers);
        sending.key = record.key.as_ref();
        sending.payload = record.payload.as_ref();
        self.write(sending, &record.topic).await
    }

    async fn write<K: ToBytes>(
        &self,
        record: FutureRecord<'_, K, Vec<u8>>,
        topic: &str,
    ) -> Result<Origin, ProduceError> {
        let written = match self.enqueue(record).await {
            Ok(delivery) => self.delivered(delivery, topic).await,
            Err(error) => Err(error),
        };
        let topic = topic.to_owned();
        match written {
            Ok(written) => Ok(Origin {
                topic,
                partition: written.partition,
                offset: written.offset,
            }),
            Err(error) => Err(ProduceError::Refused { topic, error }),
        }
    }

    /// Waits until everything sent is with the brokers.
    ///
    /// # Errors
    /// When that takes longer than `within`.
    pub async fn flush(&self, within: Duration) -> Result<(), KafkaError> {
        let client = self.client.clone();
        tokio::task::spawn_blocking(move || client.flush(within))
            .await
            .map_err(|_| KafkaError::Canceled)?
    }

    async fn enqueue<K: ToBytes>(
        &self,
        mut record: FutureRecord<'_, K, Vec<u8>>,
    ) -> Result<DeliveryFuture, KafkaError> {
        loop {
            match self.client.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((error, back))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                {
                    record = back;
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    async fn delivered(
        &self,
        mut delivery: DeliveryFuture,
        topic: &str,
    ) -> Result<Written, KafkaError> {
        loop {
            match tokio::time::timeout(SAY_SO_AFTER, &mut delivery).await {
                Ok(Ok(result)) => return outcome(result),
                Ok(Err(_)) => return Err(KafkaError::Canceled),
                Err(_) => tracing::warn!(
                    bootstrap = %self.kafka.bootstrap,
                    topic,
                    "kafka has not taken the record yet, trying on"
                ),
            }
        }
    }
}

fn outcome(result: OwnedDeliveryResult) -> Result<Written, KafkaError> {
    result.map_err(|(error, _)| error)
}
