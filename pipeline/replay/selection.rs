//! Which records a replay reads.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::Head;
use serde::{Deserialize, Serialize};

use super::ReplayError;
use crate::Kafka;
use crate::kafka::Quiet;

/// How long a single question to the brokers may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Which records; nothing set: all there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Stamped at or after this, in milliseconds since 1970.
    pub from: Option<i64>,
    /// Stamped before this, in milliseconds since 1970.
    pub to: Option<i64>,
    /// Only these stretches of their topics.
    pub offsets: Vec<Offsets>,
    /// Only this customer organisation's.
    pub tenant: Option<String>,
    /// Only this call's.
    pub call: Option<String>,
}

impl Selection {
    /// Whether the record's key, its call, is selected; decides before anything is decoded.
    pub fn takes_key(&self, key: Option<&[u8]>) -> bool {
        let wanted = self.call.as_ref().map(String::as_bytes);
        wanted.is_none() || wanted == key
    }

    /// Whether an event is selected.
    pub fn takes(&self, head: &Head) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|it| it == is);
        fits(&self.tenant, &head.tenant) && fits(&self.call, &head.call_id)
    }

    /// Whether a record stamped so is selected.
    pub fn takes_time(&self, timestamp: i64) -> bool {
        self.from.is_none_or(|from| timestamp >= from) && self.to.is_none_or(|to| timestamp < to)
    }
}

/// A stretch of a partition, like `calls.insights/3:100-200` (from 100, up to and without 200),
/// `calls.insights/3:100-` or `calls.insights/3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// Topic, without a prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// The offset to stop before; none for the end.
    pub to: Option<i64>,
}

impl FromStr for Offsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (topic, rest) = text.rsplit_once('/')?;
            let (partition, range) = rest.split_once(':').unwrap_or((rest, "0-"));
            let (from, to) = range.split_once('-')?;
            let to = Some(to).filter(|to| !to.is_empty());
            let offsets = Self {
                topic: topic.to_owned(),
                partition: partition.parse().ok()?,
                from: from.parse().ok()?,
                to: to.map(str::parse).transpose().ok()?,
            };
            let ordered = offsets.to.is_none_or(|to| to >= offsets.from);
            (ordered && offsets.partition >= 0 && offsets.from >= 0).then_some(offsets)
        };
        parse().ok_or_else(|| {
            "expected TOPIC/PARTITION:FROM-TO, like calls.insights/3:100-200".to_owned()
        })
    }
}

/// Offsets of a partition, from `from` up to and without `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First offset.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
    /// First offset that the brokers still hold.
    pub oldest: i64,
}

impl Span {
    /// How many records there can be at most: transaction markers count as well.
    pub fn at_most(&self) -> u64 {
        u64::try_from(self.to - self.from).unwrap_or(0)
    }
}

/// Spans by topic on the broker and partition.
pub type Spans = BTreeMap<(String, i32), Span>;

/// Where the selected records of these topics (names on the broker) lie, as far as time and
/// offsets tell.
///
/// # Errors
/// [`ReplayError::NoTopic`], [`ReplayError::Kafka`].
pub async fn spans(
    kafka: &Kafka,
    topics: &[String],
    selection: &Selection,
) -> Result<Spans, ReplayError> {
    let consumer: BaseConsumer<Quiet> = kafka.client(&[]).create_with_context(Quiet)?;
    let (topics, selection) = (topics.to_vec(), selection.clone());
    let prefix = kafka.prefix.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let mut spans = Spans::new();
        for topic in &topics {
            let name = topic.strip_prefix(&prefix).unwrap_or(topic);
            spans.extend(of_topic(&consumer, topic, name, &selection)?);
        }
        Ok(spans)
    });
    asking.await.map_err(|_| KafkaError::Canceled)?
}

fn of_topic(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    name: &str,
    selection: &Selection,
) -> Result<Spans, ReplayError> {
    // Asking for one topic by name would create it on brokers that create topics by use.
    let metadata = consumer.fetch_metadata(None, ANSWER_WITHIN)?;
    let mut topics = metadata.topics().iter();
    let described = topics.find(|it| it.name() == topic && it.error().is_none());
    let described = described.ok_or_else(|| ReplayError::NoTopic(topic.to_owned()))?;
    let partitions: Vec<i32> = described.partitions().iter().map(|p| p.id()).collect();
    let from = at_time(consumer, topic, &partitions, selection.from)?;
    let to = at_time(consumer, topic, &partitions, selection.to)?;
    let mut spans = Spans::new();
    for partition in partitions {
        let (oldest, end) = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN)?;
        let mut span = Span {
            from: oldest,
            to: end,
            oldest,
        };
        if selection.from.is_some() {
            span.from = from.get(&partition).copied().unwrap_or(end);
        }
        if selection.to.is_some() {
            span.to = to.get(&partition).copied().unwrap_or(end);
        }
        if !selection.offsets.is_empty() {
            let mut wanted = selection.offsets.iter();
            let wanted = wanted.find(|it| it.topic == name && it.partition == partition);
            let Some(wanted) = wanted else { continue };
            span.from = span.from.max(wanted.from);
            span.to = span.to.min(wanted.to.unwrap_or(end));
        }
        span.from = span.from.clamp(oldest, end);
        span.to = span.to.clamp(span.from, end);
        spans.insert((topic.to_owned(), partition), span);
    }
    Ok(spans)
}

/// The first offset of each partition stamped at or after `time`, where there is one.
fn at_time(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: &[i32],
    time: Option<i64>,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let Some(time) = time else {
        return Ok(BTreeMap::new());
    };
    let mut asked = TopicPartitionList::new();
    for partition in partitions {
        asked.add_partition_offset(topic, *partition, Offset::Offset(time))?;
    }
    let found = consumer.offsets_for_times(asked, ANSWER_WITHIN)?;
    let elements = found.elements();
    let offsets = elements
        .iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
    Ok(offsets.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_offsets_are_read_and_nonsense_is_refused() {
        let read = |text: &str| text.parse::<Offsets>();
        let whole = read("calls.insights/3:100-200").unwrap();
        assert_eq!(
            (whole.topic.as_str(), whole.partition),
            ("calls.insights", 3)
        );
        assert_eq!((whole.from, whole.to), (100, Some(200)));
        assert_eq!(read("calls.insights/3:100-").unwrap().to, None);
        let all = read("calls.insights/0").unwrap();
        assert_eq!((all.from, all.to), (0, None));
        for nonsense in [
            "",
            "calls.insights",
            "calls.insights/x",
            "t/1:5",
            "t/1:9-3",
            "t/-1",
        ] {
            assert!(read(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_selection_takes_by_call_tenant_and_time() {
        let selection = Selection {
            from: Some(10),
            to: Some(20),
            tenant: Some("acme".into()),
            call: Some("call-1".into()),
            ..Selection::default()
        };
        let head = |tenant: &str, call: &str| Head {
            event_id: schemas::EventId::derive("test", call, 0),
            call_id: call.into(),
            tenant: tenant.into(),
            time: 0,
        };
        assert!(selection.takes(&head("acme", "call-1")));
        assert!(!selection.takes(&head("acme", "call-2")));
        assert!(!selection.takes(&head("other", "call-1")));
        assert!(selection.takes_key(Some(b"call-1")) && !selection.takes_key(None));
        assert_eq!(
            [9, 10, 19, 20].map(|at| selection.takes_time(at)),
            [false, true, true, false]
        );
        assert!(Selection::default().takes_key(None));
    }
}
