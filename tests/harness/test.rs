//! The harness itself: its servers are real, and nothing of them outlives a test.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Flow, Kafka, Postgres, Process, Signal, Wire, alive, eventually, unique};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_committed_records_see_a_committed_transaction_and_no_aborted_one() {
    let kafka = harness::kafka().await;
    let topic = unique("calls");
    create_topic(kafka, &topic, 1).await;
    tokio::task::block_in_place(|| {
        let producer = transactional_producer(kafka);
        producer.begin_transaction().unwrap();
        send(&producer, &topic, "aborted");
        producer.abort_transaction(SOON).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, &topic, "committed");
        producer.commit_transaction(SOON).unwrap();
    });
    assert_eq!(first_record(kafka, &topic).await, "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_serves_on_without_one_broker_and_takes_it_back() {
    let kafka = Kafka::start(3).await;
    let topic = unique("calls");
    create_topic(&kafka, &topic, 3).await;
    let killed = process_id(&kafka.folder().join("broker-1/pid"));
    kafka.kill_broker(1).await;
    assert!(!alive(killed));
    tokio::task::block_in_place(|| {
        let producer = transactional_producer(&kafka);
        producer.begin_transaction().unwrap();
        send(&producer, &topic, "written by two");
        producer.commit_transaction(SOON).unwrap();
    });
    kafka.start_broker(1).await;
    assert_eq!(first_record(&kafka, &topic).await, "written by two");
    let folder = kafka.folder().to_owned();
    drop(kafka);
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_committed_rows_over_a_crash() {
    let postgres = Postgres::start().await;
    let url = postgres.create_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE calls AS SELECT 1 AS id")
        .execute(&mut connection)
        .await
        .unwrap();
    postgres.kill().await;
    postgres.restart().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let id: i32 = sqlx::query_scalar("SELECT id FROM calls")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_test_leaves_nothing_running() {
    let (told, held) = std::sync::mpsc::channel();
    let failing = tokio::spawn(async move {
        let postgres = Postgres::start().await;
        let process = Process::spawn("sleep", &["1000"], &[]);
        let server = process_id(&postgres.folder().join("pid"));
        told.send((postgres.folder().to_owned(), [server, process.id()]))
            .unwrap();
        panic!("as a failing test does");
    });
    assert!(failing.await.is_err());
    let (folder, processes) = held.recv().unwrap();
    assert!(!processes.into_iter().any(alive));
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_of_the_test_process_leaves_nothing_behind() {
    let mut holder = Process::spawn(env!("CARGO_BIN_EXE_hold"), &[], &[]);
    let held = eventually(SOON * 3, "the servers are held", async || {
        assert!(holder.exited().is_none(), "{}", holder.stderr());
        Some(holder.stdout()).filter(|text| text.contains("holding"))
    })
    .await;
    let named = |word: &str| -> Vec<String> {
        held.lines()
            .filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned()))
            .collect()
    };
    let processes: Vec<u32> = named("process")
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    let folders: Vec<PathBuf> = named("folder").iter().map(PathBuf::from).collect();
    assert!(processes.len() == 3 && processes.iter().all(|id| alive(*id)));
    assert!(folders.len() == 2 && folders.iter().all(|folder| folder.is_dir()));
    for browser in named("named") {
        assert!(!processes_naming(&browser).is_empty());
    }
    holder.kill();
    eventually(SOON, "its processes and folders are gone", async || {
        let running = processes.iter().any(|id| alive(*id))
            || named("named")
                .iter()
                .any(|browser| !processes_naming(browser).is_empty());
        (!running && !folders.iter().any(|folder| folder.exists())).then_some(())
    })
    .await;
    for profile in named("named") {
        std::fs::remove_dir_all(profile).unwrap();
    }
}

#[tokio::test]
async fn a_process_can_be_frozen_and_ended_and_what_it_wrote_is_kept() {
    let script = "echo out; echo err >&2; trap 'exit 7' TERM; while :; do sleep 0.05; done";
    let mut process = Process::spawn("sh", &["-c", script], &[]);
    eventually(SOON, "it writes", async || {
        (process.stderr() == "err\n").then_some(())
    })
    .await;
    assert_eq!(process.stdout(), "out\n");
    process.signal(Signal::Stop);
    let stat = format!("/proc/{}/stat", process.id());
    eventually(SOON, "it is frozen", async || {
        std::fs::read_to_string(&stat)
            .unwrap()
            .contains(") T ")
            .then_some(())
    })
    .await;
    process.signal(Signal::Term);
    process.signal(Signal::Continue);
    assert_eq!(process.wait(SOON).await.code(), Some(7));
}

#[tokio::test]
async fn a_cut_wire_holds_what_is_sent_until_it_is_whole() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = Wire::to(server.local_addr().unwrap().port()).await;
    let mut client = TcpStream::connect(wire.address()).await.unwrap();
    let (mut served, _) = server.accept().await.unwrap();
    let mut byte = [0];
    client.write_all(b"a").await.unwrap();
    served.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"a");
    let cut_up = Flow {
        cut_up: true,
        ..Flow::default()
    };
    wire.set(cut_up);
    client.write_all(b"b").await.unwrap();
    // The other way it carries on.
    served.write_all(b"c").await.unwrap();
    client.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"c");
    assert!(served.try_read(&mut byte).is_err(), "it came through");
    wire.set(Flow::default());
    served.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_shows_a_page_and_ends_with_its_driver() {
    let Some(browser) = harness::chromium().await else {
        return;
    };
    browser
        .goto("data:text/html,<title>softphone</title>")
        .await
        .unwrap();
    assert_eq!(browser.title().await.unwrap(), "softphone");
    browser.quit().await;
}

#[tokio::test]
#[should_panic(expected = "not within 50ms: the moon is made of cheese")]
async fn waiting_in_vain_ends_with_what_was_waited_for() {
    let never = async || -> Option<()> { None };
    eventually(
        Duration::from_millis(50),
        "the moon is made of cheese",
        never,
    )
    .await;
}

#[test]
fn the_python_of_data_teams_has_the_standard_deserialiser() {
    let imports = "from confluent_kafka.schema_registry.avro import AvroDeserializer";
    let status = std::process::Command::new(harness::python())
        .args(["-c", imports])
        .status();
    assert!(status.unwrap().success());
}

/// The ids of the processes whose command line holds `text`.
fn processes_naming(text: &str) -> Vec<u32> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

async fn create_topic(kafka: &Kafka, topic: &str, copies: i32) {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .create()
        .unwrap();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(copies));
    let results = admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

fn transactional_producer(kafka: &Kafka) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("transactional.id", unique("harness"))
        .create()
        .unwrap();
    producer.init_transactions(SOON).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, text: &str) {
    producer
        .send(BaseRecord::<str, str>::to(topic).payload(text))
        .unwrap();
    producer.flush(SOON).unwrap();
}

async fn first_record(kafka: &Kafka, topic: &str) -> String {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", unique("harness"))
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    eventually(SOON, "a record arrives", async || {
        let record = consumer.poll(Duration::ZERO)?.unwrap();
        Some(String::from_utf8(record.payload()?.to_vec()).unwrap())
    })
    .await
}

fn process_id(pid_file: &Path) -> u32 {
    let content = std::fs::read_to_string(pid_file).unwrap();
    content.split(' ').next().unwrap().parse().unwrap()
}
