//! Reads what a run has left: every topic and its dead letters under `read_committed`, every row.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::reader::{From, Replayed};
use pipeline::{Decoder, ReadError, Reader};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::{AnyEvent, Body, Codec, Topic, topics};
use sqlx::Row;

use crate::checker::{Letter, Seen};
use crate::stand::{PARTITIONS, Scene, pool};

/// How long reading may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Of the text path.
pub const TOPICS: [Topic; 4] = [
    topics::CALLS_TRANSCRIPT,
    topics::CALLS_INSIGHTS,
    topics::COACHING_TIPS,
    topics::COACHING_FEEDBACK,
];
/// Not the same in two runs: which version of the playbook was there, and when a softphone told.
const OF_THE_RUN: &str = "ARRAY['playbook_version']";
const OF_THE_FEEDBACK: &str = "ARRAY['given_at']";

/// The committed events of every topic.
pub async fn topics(scene: &Scene) -> BTreeMap<&'static str, Vec<Seen>> {
    let codec = Arc::new(Codec::new().unwrap());
    let mut all = BTreeMap::new();
    for topic in TOPICS {
        let (decoder, only) = (Decoder::new(Arc::clone(&codec), None), [topic]);
        let opened = Reader::open(
            &scene.kafka,
            decoder,
            &only,
            From::Beginning,
            Replayed::Read,
        );
        let mut reader = opened.await.unwrap();
        let events: &mut Vec<Seen> = all.entry(topic.name).or_default();
        let read = async {
            while let Some(next) = reader.next_present().await {
                match next {
                    Ok(envelope) => events.push(seen(&envelope.event)),
                    // The load's own poison: its dead letters are compared.
                    Err(ReadError::Poison { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let within = tokio::time::timeout(WITHIN, read).await;
        within.unwrap_or_else(|_| panic!("{} does not end: an open transaction?", topic.name));
    }
    all
}

fn seen(event: &AnyEvent) -> Seen {
    let head = event.head();
    let mut content = serde_json::to_value(event).unwrap();
    let about = match event {
        AnyEvent::Insight(event) => match &event.body {
            Body::Item(insight) => Some(insight.utterance_id),
            _ => None,
        },
        AnyEvent::Tip(event) => match &event.body {
            Body::Item(tip) => {
                content["tip"]["playbook_version"] = "any".into();
                tip.utterance_id
            }
            _ => None,
        },
        AnyEvent::Feedback(_) => {
            content["time"] = 0.into();
            None
        }
        AnyEvent::Audio(_)
        | AnyEvent::Transcript(_)
        | AnyEvent::NoteRequest(_)
        | AnyEvent::ParkedNote(_)
        | AnyEvent::Note(_) => None,
    };
    Seen {
        call: head.call_id.clone(),
        id: head.event_id.to_string(),
        about: about.map(|id| id.to_string()),
        content: content.to_string(),
    }
}

/// The dead letters of every topic.
pub async fn letters(scene: &Scene) -> Vec<Letter> {
    let scene = scene.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let dead = TOPICS.map(|topic| scene.kafka.dead(&topic));
        read_letters(&scene, &dead)
    });
    reading.await.unwrap()
}

fn read_letters(scene: &Scene, dead: &[String]) -> Vec<Letter> {
    let group = harness::unique("letters");
    let config = scene
        .kafka
        .consumer(&group, &[("enable.partition.eof", "true")]);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut letters = Vec::new();
    for topic in dead {
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut ended, deadline) = (HashSet::new(), Instant::now() + WITHIN);
        while ended.len() < all.count() {
            assert!(Instant::now() < deadline, "{topic} has no end");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(record)) if record.topic() == topic => letters.push(letter(&record)),
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }
    letters
}

fn letter(record: &impl Message) -> Letter {
    let headers = record.headers().into_iter().flat_map(Headers::iter);
    let texts: HashMap<&str, String> = headers
        .map(|header| {
            let value = header.value.unwrap_or_default();
            (header.key, String::from_utf8_lossy(value).into_owned())
        })
        .collect();
    let header = |name: &str| texts.get(name).cloned().unwrap_or_default();
    let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
    Letter {
        stage: header("dead.stage"),
        content: format!(
            "{}, {key}: {:02x?}",
            header("dead.reason"),
            record.payload()
        ),
    }
}

/// The rows of every table, and what the ledger says of each call.
pub async fn rows(scene: &Scene) -> (BTreeMap<String, Vec<String>>, BTreeMap<String, String>) {
    let pool = pool(&scene.database).await;
    let query = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' \
                 AND tablename NOT LIKE '%migrations_of%'";
    let mut rows = BTreeMap::new();
    for table in sqlx::query(query).fetch_all(&pool).await.unwrap() {
        let table: String = table.get(0);
        let left_out = match table.as_str() {
            "feedback" => OF_THE_FEEDBACK,
            _ => OF_THE_RUN,
        };
        // Table names come from the database itself.
        let dump = format!("SELECT (to_jsonb(t) - {left_out})::text FROM \"{table}\" t ORDER BY 1");
        let dumped = sqlx::query(sqlx::AssertSqlSafe(dump))
            .fetch_all(&pool)
            .await;
        let lines = dumped.unwrap().into_iter().map(|row| row.get(0)).collect();
        rows.insert(table, lines);
    }
    let ledger = sqlx::query("SELECT call_id, status FROM call_ledger")
        .fetch_all(&pool)
        .await;
    let ledger = ledger
        .unwrap()
        .into_iter()
        .map(|row| (row.get(0), row.get(1)));
    let ledger = ledger.collect();
    pool.close().await;
    (rows, ledger)
}

/// How many calls the ledger calls complete, and how many tips and feedback there are; none while
/// the database does not answer.
pub async fn progress(pool: &sqlx::AnyPool) -> Option<(i64, i64, i64)> {
    let query = "SELECT (SELECT COUNT(*) FROM call_ledger WHERE status = 'complete'), \
                 (SELECT COUNT(*) FROM tips), (SELECT COUNT(*) FROM feedback)";
    let row = sqlx::query(query).fetch_one(pool).await.ok()?;
    Some((row.get(0), row.get(1), row.get(2)))
}
