//! Writes what a stage emits together with the offsets of what it read.
//!
//! A transaction either commits or its producer is thrown away: after an error its outcome may be
//! unknown, and a new producer with the same transactional id ends whatever the old one left open.
//! All calls here block; they belong on the stage's own thread.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::group::Group;
use super::settings::Settings;
use crate::dead_letter::OutRecord;
use crate::{Delivery, Kafka};

/// Pause between two looks for deliveries. Longer ones cost latency in every transaction; rdkafka's own wait goes round
/// without a pause in its last millisecond, which took an eighth of two cores.
const STEP: Duration = Duration::from_micros(200);

/// How much later than its time limit a call that keeps it may come back.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    kafka: Kafka,
    settings: Settings,
    transactional_id: String,
    /// None while the last one was thrown away.
    producer: Option<Arc<BaseProducer<Deliveries>>>,
}

impl Writer {
    /// A writer of one process. Does not reach for a broker yet.
    pub fn new(kafka: &Kafka, stage: &str, settings: &Settings) -> Self {
        let instance = settings
            .instance
            .clone()
            .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        Self {
            kafka: kafka.clone(),
            settings: settings.clone(),
            transactional_id: format!("{}-{instance}", kafka.group(stage)),
            producer: None,
        }
    }

    /// Whether [`Writer::open`] is needed before the next write.
    pub fn is_closed(&self) -> bool {
        self.producer.is_none()
    }

    /// Whether another process with this one's name has taken its place. A process without a name
    /// of its own is fenced only when it was away for too long, and may go on.
    pub fn is_fenced_for_good(&self, error: &KafkaError) -> bool {
        use RDKafkaErrorCode::{Fenced, ProducerFenced};
        self.settings.instance.is_some()
            && matches!(error.rdkafka_error_code(), Some(Fenced | ProducerFenced))
    }

    /// Opens a producer, and ends what an earlier one of the same transactional id left open.
    pub fn open(&mut self) -> KafkaResult<()> {
        let transaction_timeout = self.settings.transaction_timeout_ms.to_string();
        let mut own = vec![("message.max.bytes", "2097152")];
        if self.kafka.delivery == Delivery::ExactlyOnce {
            own.push(("transactional.id", &self.transactional_id));
            own.push(("transaction.timeout.ms", &transaction_timeout));
        }
        let config = self.kafka.producer(&own);
        let producer = BaseProducer::from_config_and_context(&config, Deliveries::default())?;
        let producer = Arc::new(producer);
        if self.kafka.delivery == Delivery::ExactlyOnce
            && let Err(error) = producer.init_transactions(self.timeout())
        {
            throw_away(producer);
            return Err(error);
        }
        self.producer = Some(producer);
        Ok(())
    }

    /// Writes records and offsets, both or neither. After an error the writer is closed, and
    /// whether they were written is for the committed offsets to tell.
    pub fn write(
        &mut self,
        records: &[OutRecord],
        offsets: &TopicPartitionList,
        group: &Group,
    ) -> KafkaResult<()> {
        let Some(producer) = self.producer.take() else {
            return Err(KafkaError::Canceled);
        };
        let written = match self.kafka.delivery {
            Delivery::ExactlyOnce => self.transact(&producer, records, offsets, group),
            Delivery::AtLeastOnce => self.produce(&producer, records, offsets, group),
        };
        self.keep(producer, written)
    }

    fn produce(
        &self,
        producer: &BaseProducer<Deliveries>,
        records: &[OutRecord],
        offsets: &TopicPartitionList,
        group: &Group,
    ) -> KafkaResult<()> {
        self.send(producer, records)?;
        self.delivered(producer)?;
        group.commit(offsets)
    }

    /// Writes records that come from no group, all or none. After an error the writer is closed, and
    /// whether they were written is for the records themselves to tell.
    pub fn write_alone(&mut self, records: &[OutRecord]) -> KafkaResult<()> {
        let Some(producer) = self.producer.take() else {
            return Err(KafkaError::Canceled);
        };
        let written = self.alone(&producer, records);
        self.keep(producer, written)
    }

    fn alone(&self, producer: &BaseProducer<Deliveries>, records: &[OutRecord]) -> KafkaResult<()> {
        producer.begin_transaction()?;
        self.send(producer, records)?;
        self.delivered(producer)?;
        producer.commit_transaction(self.timeout())
    }

    /// Keeps the producer for the next transaction, or throws it away when this one failed.
    fn keep(
        &mut self,
        producer: Arc<BaseProducer<Deliveries>>,
        written: KafkaResult<()>,
    ) -> KafkaResult<()> {
        match written {
            Ok(()) => self.producer = Some(producer),
            Err(_) => throw_away(producer),
        }
        written
    }

    fn transact(
        &self,
        producer: &Arc<BaseProducer<Deliveries>>,
        records: &[OutRecord],
        offsets: &TopicPartitionList,
        group: &Group,
    ) -> KafkaResult<()> {
        producer.begin_transaction()?;
        self.send(producer, records)?;
        // The records travel while the offsets do.
        self.send_offsets(producer, offsets.clone(), group.metadata()?)?;
        self.delivered(producer)?;
        producer.commit_transaction(self.timeout())
    }

    /// Sends offsets from a thread of its own: librdkafka overlooks the time limit while the group's coordinator is away
    /// (its issue 5456), and may wait for ever once that broker was taken off its list (5511).
    fn send_offsets(
        &self,
        producer: &Arc<BaseProducer<Deliveries>>,
        offsets: TopicPartitionList,
        member: ConsumerGroupMetadata,
    ) -> KafkaResult<()> {
        let (producer, limit) = (Arc::clone(producer), self.timeout());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let sent = producer.send_offsets_to_transaction(&offsets, &member, limit);
            drop(producer);
            // Nobody waits any more when the time is over.
            let _ = tell.send(sent);
        });
        let late = KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut);
        told.recv_timeout(limit + GRACE).unwrap_or(Err(late))
    }

    fn send(&self, producer: &BaseProducer<Deliveries>, records: &[OutRecord]) -> KafkaResult<()> {
        for record in records {
            let mut sending =
                BaseRecord::<[u8], [u8]>::to(&record.topic).headers(record.headers.clone());
            sending.key = record.key.as_deref();
            sending.payload = record.payload.as_deref();
            while let Err((error, back)) = producer.send(sending) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                sending = back;
                serve(producer);
            }
        }
        Ok(())
    }

    fn delivered(&self, producer: &BaseProducer<Deliveries>) -> KafkaResult<()> {
        let deadline = Instant::now() + self.timeout();
        while producer.in_flight_count() > 0 {
            if Instant::now() > deadline {
                return Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
            }
            serve(producer);
        }
        producer.context().first_error().map_or(Ok(()), Err)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.transaction_timeout_ms)
    }
}

/// Drops a producer on a thread of its own: librdkafka waits there for what it has begun with its brokers, without a
/// limit while they come and go. The next producer of the same transactional id shuts it out.
fn throw_away(producer: Arc<BaseProducer<Deliveries>>) {
    std::thread::spawn(move || drop(producer));
}

/// Takes in deliveries after a pause.
fn serve(producer: &BaseProducer<Deliveries>) {
    std::thread::sleep(STEP);
    producer.poll(Duration::ZERO);
}

/// Keeps the first error among the deliveries of a write.
#[derive(Default)]
struct Deliveries(Mutex<Option<KafkaError>>);

impl Deliveries {
    fn first_error(&self) -> Option<KafkaError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        crate::kafka::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "client error");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}
