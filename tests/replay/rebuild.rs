//! The reporting tables rebuilt: row for row what they were, while the live sink goes on.

use std::collections::BTreeSet;

use consumers::reporting::{Reporting, Settings};
use harness::{Process, Signal, eventually};
use pipeline::Sink;
use pipeline::config::DatabaseUrl;
use pipeline::database::{self, DatabaseSettings};
use schemas::topics;
use sqlx::{Executor, PgPool};

use crate::scene::{SOON, Scene, call, rows};

/// The rows that these topics give a sink that nobody disturbs.
async fn undisturbed(scene: &Scene) -> BTreeSet<String> {
    let url = harness::postgres().await.create_database().await;
    let settings = DatabaseSettings {
        url: DatabaseUrl::new(url.as_str()),
        connections: 2,
    };
    let pool = database::connect(&settings).await.unwrap();
    let sink = Reporting::connect(Settings::default(), pool).await.unwrap();
    for batch in scene.events(topics::ALL).await.chunks(100) {
        sink.write(batch).await.unwrap();
    }
    rows(&PgPool::connect(&url).await.unwrap()).await
}

/// Writes whole calls of two tenants; gives how many there are.
async fn calls(scene: &Scene, name: &str, count: usize) {
    for n in 0..count {
        let tenant = if n % 2 == 0 { "acme" } else { "other" };
        scene.write_all(&call(tenant, &format!("{name}-{n}"))).await;
    }
}

/// Waits until the live sink has written what the topics hold.
async fn written(scene: &Scene, pool: &PgPool) -> BTreeSet<String> {
    let expected = undisturbed(scene).await;
    eventually(SOON, "the live sink has written everything", async || {
        (rows(pool).await == expected).then_some(())
    })
    .await;
    expected
}

/// A scene whose live sink has written some calls.
async fn live(count: usize) -> (Scene, Process, PgPool, BTreeSet<String>) {
    let scene = Scene::new().await;
    let sink = scene.spawn(&["run", "reporting"]);
    calls(&scene, "call", count).await;
    let pool = scene.pool().await;
    eventually(SOON, "the tables are there", async || {
        pool.execute("SELECT 1 FROM feedback").await.ok().map(drop)
    })
    .await;
    let expected = written(&scene, &pool).await;
    (scene, sink, pool, expected)
}

/// What a bad night does to tables.
async fn damage(pool: &PgPool) {
    for statement in [
        "DELETE FROM utterances WHERE call_id LIKE '%-1%'",
        "DELETE FROM calls WHERE call_id = 'call-2'",
        "UPDATE insights SET sentiment = 'positive', talk_ratio = 0.9 WHERE call_id = 'call-3'",
        "UPDATE audio_received SET stretches = '0-100', received_ms = 100",
        "UPDATE call_stories SET ended = FALSE, end_reason = NULL WHERE topic = 'coaching.tips'",
        "DELETE FROM feedback",
    ] {
        pool.execute(statement).await.unwrap();
    }
}

async fn end(mut sink: Process) {
    sink.signal(Signal::Term);
    assert!(sink.wait(SOON).await.success(), "{}", sink.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_tables_are_row_for_row_what_they_were_while_the_live_sink_goes_on() {
    let (scene, sink, pool, expected) = live(12).await;
    damage(&pool).await;
    assert_ne!(rows(&pool).await, expected);
    let spoilt = rows(&pool).await;
    let planned = scene.replay(&["plan", "rebuild"]).await;
    assert!(planned.contains("of 12 calls"), "{planned}");
    assert!(planned.contains("nothing was changed"), "{planned}");
    assert_eq!(rows(&pool).await, spoilt, "a plan changes nothing");
    assert!(scene.journal().await.is_empty(), "a plan leaves no trace");

    // Without a yes, and nobody to ask, nothing changes; what was read is kept.
    let (status, stdout, stderr) = scene.coach(&["replay", "run", "rebuild"]).await;
    assert_eq!(status.code(), Some(130), "{stdout}\n{stderr}");
    assert!(stderr.contains("--yes answers yes"), "{stderr}");
    assert_eq!(rows(&pool).await, spoilt);
    let id = scene.journal().await[0]["id"].as_str().unwrap().to_owned();

    // Calls go on while it is put in place.
    let arguments = ["resume", id.as_str(), "--yes"];
    let (_, told) = tokio::join!(calls(&scene, "later", 10), scene.replay(&arguments));
    assert!(told.contains("put in place"), "{told}");
    let expected = written(&scene, &pool).await;
    assert_eq!(rows(&pool).await, expected);
    let complete: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM call_ledger WHERE status = 'complete'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(complete, 22);

    let journal = scene.journal().await;
    let replay = &journal[0];
    assert_eq!(replay["standing"], "finished");
    assert!(
        replay["by"].as_str().unwrap().starts_with("ana@"),
        "{replay}"
    );
    assert!(replay["result"]["written"].as_u64().unwrap() > 0);
    let schemas: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'replay%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(schemas, 0, "its own tables are cleared away");
    end(sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_or_a_calls_rows_are_rebuilt_alone() {
    let (scene, sink, pool, expected) = live(6).await;
    damage(&pool).await;
    let of = |all: &BTreeSet<String>, name: &str| -> BTreeSet<String> {
        let part = |row: &&String| row.contains(name);
        all.iter().filter(part).cloned().collect()
    };
    let before = rows(&pool).await;
    scene
        .replay(&["run", "rebuild", "--call", "call-3", "--yes"])
        .await;
    let after = rows(&pool).await;
    assert_eq!(of(&after, "\"call-3\""), of(&expected, "\"call-3\""));
    let others = |all: &BTreeSet<String>| -> BTreeSet<String> {
        all.difference(&of(all, "\"call-3\"")).cloned().collect()
    };
    assert_eq!(
        others(&after),
        others(&before),
        "other calls' rows stay as they are"
    );
    scene
        .replay(&["run", "rebuild", "--tenant", "acme", "--yes"])
        .await;
    let after = rows(&pool).await;
    assert_eq!(of(&after, "\"acme\""), of(&expected, "\"acme\""));
    assert_ne!(after, expected, "the other tenant's rows are still damaged");
    end(sink).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_comes_back_and_rows_that_no_record_explains_go_only_when_told() {
    let (scene, sink, pool, expected) = live(4).await;
    end(sink).await;
    let tables = crate::scene::TABLES.join(", ");
    pool.execute(sqlx::AssertSqlSafe(format!("TRUNCATE {tables}")))
        .await
        .unwrap();
    let stray = "INSERT INTO feedback VALUES ('e', 't', 'stray', 'acme', 1, 'ana', 'used')";
    pool.execute(stray).await.unwrap();
    let told = scene.replay(&["run", "rebuild", "--yes"]).await;
    assert!(
        told.contains("1 live rows that no record explains stay"),
        "{told}"
    );
    let mut with_stray = rows(&pool).await;
    with_stray.retain(|row| !row.contains("stray"));
    assert_eq!(with_stray, expected);
    assert_eq!(rows(&pool).await.len(), expected.len() + 1);
    scene.replay(&["run", "rebuild", "--remove", "--yes"]).await;
    assert_eq!(rows(&pool).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_older_than_the_topics_stay() {
    let (scene, sink, pool, expected) = live(6).await;
    // Retention takes the audio, as it does after three days.
    forget(&scene, &topics::CALLS_AUDIO).await;
    damage(&pool).await;
    let told = scene.replay(&["run", "rebuild", "--remove", "--yes"]).await;
    assert!(told.contains("stories of calls stay as they are"), "{told}");
    let after = rows(&pool).await;
    let mended: BTreeSet<String> = expected
        .iter()
        .filter(|row| !row.starts_with("audio_received"))
        .cloned()
        .collect();
    assert_eq!(
        mended.difference(&after).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert_eq!(
        after.len(),
        expected.len(),
        "no row was lost with the records"
    );
    end(sink).await;
}

/// Deletes a topic's records.
async fn forget(scene: &Scene, topic: &schemas::Topic) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka.bootstrap)
        .create()
        .unwrap();
    let mut all = rdkafka::TopicPartitionList::new();
    for partition in 0..topic.partitions {
        all.add_partition_offset(&scene.kafka.topic(topic), partition, rdkafka::Offset::End)
            .unwrap();
    }
    let deleted = admin
        .delete_records(&all, &AdminOptions::new())
        .await
        .unwrap();
    deleted
        .elements()
        .iter()
        .for_each(|element| element.error().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_half_way_goes_on_and_one_that_is_cancelled_leaves_nothing() {
    let (scene, sink, pool, expected) = live(10).await;
    damage(&pool).await;
    let spoilt = rows(&pool).await;
    // Slow enough to be met half way.
    let slow = ["replay", "run", "rebuild", "--yes", "--rate", "20"];
    let mut killed = scene.spawn(&slow);
    let id = scene.half_way().await;
    killed.kill();
    assert_eq!(rows(&pool).await, spoilt, "nothing is in place yet");

    // Ctrl-C at a moment like any other: it says how to go on.
    scene.stopped(&id).await;
    let mut resumed = scene.spawn(&["replay", "resume", &id, "--yes"]);
    eventually(SOON, "it goes on", async || {
        resumed.stderr().contains("this is replay").then_some(())
    })
    .await;
    resumed.signal(Signal::Interrupt);
    let status = resumed.wait(SOON).await;
    assert_eq!(status.code(), Some(130), "{}", resumed.stderr());
    assert!(
        resumed
            .stderr()
            .contains(&format!("coach replay resume {id}"))
    );
    assert_eq!(rows(&pool).await, spoilt);

    let mut cancelled = scene.spawn(&slow);
    let other = scene.half_way().await;
    assert_ne!(other, id);
    scene.replay(&["cancel", &other, "--yes"]).await;
    assert!(!cancelled.wait(SOON).await.success());
    assert_eq!(rows(&pool).await, spoilt);
    let journal = scene.journal().await;
    let standing = |id: &str| {
        let replay = journal.iter().find(|replay| replay["id"] == id).unwrap();
        replay["standing"].clone()
    };
    assert_eq!(
        (standing(&id), standing(&other)),
        ("stopped".into(), "cancelled".into())
    );
    let (status, _, stderr) = scene.coach(&["replay", "resume", &other, "--yes"]).await;
    assert!(
        !status.success() && stderr.contains("was cancelled"),
        "{stderr}"
    );
    scene.replay(&["cancel", &id, "--yes"]).await;
    let schemas: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'replay%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(schemas, 0);

    let told = scene.replay(&["run", "rebuild", "--yes"]).await;
    assert!(told.contains("put in place"), "{told}");
    assert_eq!(rows(&pool).await, expected);
    end(sink).await;
}
