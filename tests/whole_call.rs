//! The whole chain on real Kafka and PostgreSQL: a call goes in, tips and rows come out, and no
//! spoken word lies anywhere in the clear.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use harness::{Process, Signal};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use sqlx::Row;

const COACH: &str = env!("CARGO_BIN_EXE_coach");
const SOON: Duration = Duration::from_secs(120);

/// What the customer and the rep say; words that occur nowhere in names of fields or rules.
const CALL: &str = r#"{"call":"whole-1","rep":"ana","customer":"Zebediah Quux","speaker":"rep","start_ms":0,"end_ms":2400,"language":"en","text":"hello this is ana from marmalade systems how are you"}
{"call":"whole-1","speaker":"customer","start_ms":3000,"end_ms":6200,"language":"en","text":"honestly it's way too expensive for a bakery like ours, we don't have the budget"}
{"call":"whole-1","speaker":"rep","start_ms":6800,"end_ms":9000,"language":"en","text":"i understand, would paying by the month make it easier for you"}
this line is broken
{"call":"whole-2","rep":"ben","speaker":"customer","start_ms":0,"end_ms":2500,"language":"es","text":"la verdad es que ya trabajamos con otro proveedor y estamos contentos con la mermelada"}
{"call":"whole-1","speaker":"customer","start_ms":9500,"end_ms":12000,"language":"en","text":"okay that sounds good"}
"#;
const SPOKEN: [&str; 5] = ["marmalade", "bakery", "mermelada", "Quux", "expensive for"];

struct Chain {
    environment: Vec<(&'static str, String)>,
    bootstrap: String,
    database: String,
    gateway: String,
}

impl Chain {
    async fn new() -> Self {
        let kafka = harness::kafka().await;
        let database = harness::postgres().await.create_database().await;
        let gateway = format!("127.0.0.1:{}", harness::free_port());
        let environment = vec![
            (
                "SALES_COACH__KAFKA__BOOTSTRAP",
                kafka.bootstrap().to_owned(),
            ),
            ("SALES_COACH__DATABASE__URL", database.clone()),
            (
                "SALES_COACH_MASTER_KEY",
                pipeline::seal::MasterKey::generate().to_string(),
            ),
            ("SALES_COACH__GATEWAY__LISTEN", gateway.clone()),
            (
                "SALES_COACH__GATEWAY__TOKEN_SECRET",
                "a secret of this test, of enough bytes".into(),
            ),
            (
                "SALES_COACH__TELEMETRY__LISTEN",
                format!("127.0.0.1:{}", harness::free_port()),
            ),
        ];
        Self {
            environment,
            bootstrap: kafka.bootstrap().to_owned(),
            database,
            gateway,
        }
    }

    fn spawn(&self, arguments: &[&str]) -> Process {
        let pairs: Vec<_> = self
            .environment
            .iter()
            .map(|(k, v)| (*k, v.as_str()))
            .collect();
        Process::spawn(COACH, arguments, &pairs)
    }

    async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let mut process = self.spawn(arguments);
        let status = process.wait(SOON).await;
        (status.success(), process.stdout(), process.stderr())
    }

    /// Events of a topic, as `coach tail` prints them.
    async fn tail(&self, topic: &str, unseal: bool) -> Vec<Value> {
        let mut arguments = vec!["tail", topic, "--from", "beginning", "--until-end"];
        if unseal {
            arguments.push("--unseal");
        }
        let (success, stdout, stderr) = self.run(&arguments).await;
        assert!(success, "{stderr}");
        stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Every row of every table, as text and bytes.
    async fn every_row(&self) -> Vec<u8> {
        let pool = sqlx::PgPool::connect(&self.database).await.unwrap();
        let tables = sqlx::query("select tablename from pg_tables where schemaname = 'public'")
            .fetch_all(&pool)
            .await
            .unwrap();
        let mut bytes = Vec::new();
        for table in tables {
            let name: String = table.get(0);
            // Table names come from the database itself.
            let dump = format!("select row_to_json(t)::text from \"{name}\" t");
            for row in sqlx::query(sqlx::AssertSqlSafe(dump))
                .fetch_all(&pool)
                .await
                .unwrap()
            {
                bytes.extend(row.get::<String, _>(0).into_bytes());
            }
        }
        bytes
    }

    /// Key, value and headers of every record of every topic.
    fn every_record(&self) -> Vec<u8> {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", harness::unique("raw"))
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(None, SOON).unwrap();
        let mut bytes = Vec::new();
        for topic in metadata
            .topics()
            .iter()
            .filter(|topic| !topic.name().starts_with("__"))
        {
            let mut all = TopicPartitionList::new();
            for partition in topic.partitions() {
                all.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)
                    .unwrap();
            }
            consumer.assign(&all).unwrap();
            let mut ended = HashSet::new();
            let deadline = Instant::now() + SOON;
            while ended.len() < topic.partitions().len() {
                assert!(Instant::now() < deadline, "{} has no end", topic.name());
                // None also when the client was busy with something else.
                let Some(next) = consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                match next {
                    Ok(record) => {
                        bytes.extend(record.payload().unwrap_or_default());
                        bytes.extend(record.key().unwrap_or_default());
                        for header in record.headers().into_iter().flat_map(Headers::iter) {
                            bytes.extend(header.key.as_bytes());
                            bytes.extend(header.value.unwrap_or_default());
                        }
                    }
                    Err(KafkaError::PartitionEOF(partition)) => {
                        ended.insert(partition);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        bytes
    }
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// Runs a program of the data team to its end and returns what it prints.
async fn data_team(program: &str, arguments: &[&str]) -> String {
    let mut process = Process::spawn(program, arguments, &[]);
    let status = process.wait(SOON).await;
    assert!(status.success(), "{program}: {}", process.stderr());
    process.stdout()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_becomes_tips_and_rows_that_data_teams_can_read_and_no_word_lies_in_the_clear() {
    harness::models();
    let chain = Chain::new().await;
    let (created, _, stderr) = chain.run(&["topics", "create"]).await;
    assert!(created, "{stderr}");
    let mut stages = chain.spawn(&["run", "all"]);

    // Transcripts of another system: the broken line is named, the rest goes through.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    std::fs::write(&file, CALL).unwrap();
    let (success, _, stderr) = chain
        .run(&["transcript", &file.display().to_string()])
        .await;
    assert!(!success, "a line was passed over");
    assert!(stderr.contains("line 4: no valid JSON"), "{stderr}");
    assert!(stderr.contains("5 utterances of 2 calls"), "{stderr}");

    // A recording, as fast as it goes.
    let sample = harness::checkout()
        .join("producers/samples/es.wav")
        .display()
        .to_string();
    let (success, stdout, stderr) = chain
        .run(&[
            "call",
            &sample,
            "--speed",
            "0",
            "--language",
            "es",
            "--rep",
            "eva",
        ])
        .await;
    assert!(success, "{stderr}");
    let recorded = stdout.trim().to_owned();

    // Every call ends complete in the ledger.
    let pool = sqlx::PgPool::connect(&chain.database).await.unwrap();
    let expected = HashSet::from(["whole-1".to_owned(), "whole-2".to_owned(), recorded.clone()]);
    harness::eventually(SOON, "the ledger has every call complete", async || {
        let rows = sqlx::query("select call_id from call_ledger where status = 'complete'")
            .fetch_all(&pool)
            .await
            .ok()?;
        let complete: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
        (complete == expected).then_some(())
    })
    .await;

    // Tips: on the objection, in its language, naming the utterance.
    let tips = chain.tail("coaching.tips", false).await;
    let of = |call: &str| {
        tips.iter()
            .filter(|line| line["event"]["call_id"] == call && line["event"]["type"] == "tip")
            .map(|line| line["event"]["tip"].clone())
            .collect::<Vec<_>>()
    };
    let english = of("whole-1");
    assert_eq!(english[0]["objection"], "price", "{english:?}");
    let transcript = chain.tail("calls.transcript", true).await;
    let objection = transcript
        .iter()
        .find(|line| line["event"]["event_id"] == english[0]["utterance_id"])
        .expect("the tip names an utterance");
    assert!(
        objection["event"]["utterance"]["text"]
            .as_str()
            .unwrap()
            .contains("bakery")
    );
    assert!(!of(&recorded).is_empty(), "the recorded call has tips");
    assert_eq!(of(&recorded)[0]["language"], "es");

    // Each event once.
    for topic in ["calls.transcript", "calls.insights", "coaching.tips"] {
        let events = chain.tail(topic, false).await;
        let ids: HashSet<_> = events
            .iter()
            .map(|line| line["event"]["event_id"].to_string())
            .collect();
        assert_eq!(ids.len(), events.len(), "{topic}");
    }

    // A data team's own tools read the tips.
    let registry = format!("http://{}", chain.gateway);
    let script = harness::checkout()
        .join("tests/python/tips.py")
        .display()
        .to_string();
    let python = harness::python().display().to_string();
    let read = data_team(&python, &[&script, &chain.bootstrap, &registry]).await;
    let expected: HashSet<&str> = tips
        .iter()
        .filter(|line| line["event"]["type"] == "tip")
        .filter_map(|line| line["event"]["event_id"].as_str())
        .collect();
    assert_eq!(
        read.lines().collect::<HashSet<_>>(),
        expected,
        "AvroDeserializer"
    );
    // Debian's kcat is built without Avro; text stands in the records as it is.
    let read = data_team(
        "kcat",
        &[
            "-b",
            &chain.bootstrap,
            "-C",
            "-t",
            "coaching.tips",
            "-o",
            "beginning",
            "-e",
            "-q",
            "-X",
            "isolation.level=read_committed",
            "-f",
            "%k %s\n",
        ],
    )
    .await;
    for id in expected {
        assert!(read.contains(id), "kcat: {id}");
    }

    // No spoken word, and no name, lies in the clear: on no topic, in no table.
    let records = chain.every_record();
    let rows = chain.every_row().await;
    assert!(
        contains(&records, "whole-1") && contains(&rows, "whole-1"),
        "both were really read"
    );
    for words in SPOKEN {
        assert!(!contains(&records, words), "{words:?} on a topic");
        assert!(!contains(&rows, words), "{words:?} in a table");
    }

    stages.signal(Signal::Term);
    let status = stages.wait(SOON).await;
    assert!(
        status.success(),
        "{status}: {}",
        stages
            .stderr()
            .lines()
            .rev()
            .take(5)
            .collect::<Vec<_>>()
            .join("\n")
    );
    for words in SPOKEN {
        assert!(!stages.stderr().contains(words), "{words:?} in a log line");
    }
}
