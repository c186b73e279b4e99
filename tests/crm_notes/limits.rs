//! Limits: bursts are paced, the day's limit parks, what is refused for good can be sent again.

use std::time::{Duration, SystemTime};

use consumers::crm;
use crm_servers::{Fault, Policy};
use harness::eventually;
use pipeline::Kafka;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::topics as table;
use schemas::{AnyEvent, NoteResult};

use crate::scene::{DEADLINE, Scene, org, portal, portal_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_day_parks_the_tenants_notes_in_the_topic_and_says_so_until_it_is_over() {
    let (mut scene, portal, well) = (Scene::new().await, portal().await, org().await);
    scene.set("DAILY", "5s");
    scene.on_hubspot("acme", &portal, "", "").await;
    scene.on_salesforce("bolt", &well).await;
    portal.set_daily_used(portal.setup().daily_requests);
    let running = scene.run();
    for n in 0..5 {
        scene.call("acme", &format!("acme-{n}")).await;
        scene.call("bolt", &format!("bolt-{n}")).await;
    }
    let parked = scene.results(NoteResult::Parked, 5).await;
    let daily = parked
        .iter()
        .filter(|(_, note)| note.reason.as_deref() == Some("daily"));
    assert_eq!(daily.count(), parked.len());
    scene.results(NoteResult::Written, 5).await;
    assert_eq!(well.records("Call_Coaching__c").len(), 5);
    let waiting = scene.read(table::CRM_PARKED).await;
    assert!(
        waiting
            .iter()
            .any(|e| matches!(e.event, AnyEvent::ParkedNote(_)))
    );
    let desk = scene.desk().await;
    eventually(DEADLINE, "the status says so", async || {
        let status = crm::status(&desk).await.unwrap();
        let acme = status.into_iter().find(|status| status.tenant == "acme")?;
        let daily = Some("daily".to_owned());
        let parked = ("parked".to_owned(), daily.clone(), 5);
        (acme.connection.reason == daily && acme.notes.contains(&parked)).then_some(())
    })
    .await;
    let stopped = running.metrics.gather().into_iter();
    let stopped = stopped.filter(|family| family.name() == "coach_crm_stopped");
    let stopped: f64 = stopped
        .flat_map(|family| family.get_metric().to_vec())
        .map(|metric| metric.get_gauge().get_value())
        .sum();
    assert!(stopped >= 1.0, "no metric says so");
    // Nobody asks again while the day lasts, but to see whether it is over.
    let asked = portal.requests().len();
    assert!(asked <= 4, "{asked} requests for five parked notes");

    // A restart remembers, for nothing of it is in memory.
    running.stop().await;
    portal.set_daily_used(0);
    let running = scene.run();
    scene.results(NoteResult::Written, 10).await;
    assert_eq!(portal.records("calls").len(), 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_stay_within_what_the_crm_allows() {
    let scene = Scene::new().await;
    let portal = portal_with(|setup| setup.ten_secondly = 4).await;
    scene.on_hubspot("acme", &portal, "", "").await;
    let running = scene.run();
    for n in 0..12 {
        scene.call("acme", &format!("acme-{n}")).await;
        // Each in a request of its own.
        eventually(DEADLINE, "the note is written", async || {
            (portal.records("calls").len() > n).then_some(())
        })
        .await;
    }
    let refused = portal
        .requests()
        .into_iter()
        .filter(|r| r.status == Some(429));
    assert_eq!(refused.count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crm_that_asks_for_a_pause_gets_it() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    portal.next(Fault::Limit(Policy::TenSecondlyRolling));
    let running = scene.run();
    scene.call("acme", "call-1").await;
    scene.results(NoteResult::Written, 1).await;
    let at: Vec<SystemTime> = portal.requests().iter().map(|request| request.at).collect();
    let pause = at[1].duration_since(at[0]).unwrap();
    assert!(
        pause >= Duration::from_millis(900),
        "Retry-After was 1 s, not {pause:?}"
    );
    running.stop().await;
}

/// Headers of a topic's dead letters: reason and detail.
fn letters(kafka: &Kafka, topic: &str) -> Vec<(String, String)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap)
        .set("group.id", harness::unique("letters"))
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let mut all = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.id(), DEADLINE)
            .unwrap();
        left += high - low;
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut letters = Vec::new();
    while left > 0 {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let record = record.unwrap();
        let headers = record.headers().unwrap();
        let header = |name: &str| {
            let found = headers.iter().find(|header| header.key == name);
            String::from_utf8(found.unwrap().value.unwrap().to_vec()).unwrap()
        };
        letters.push((header("dead.reason"), header("dead.detail")));
        left -= 1;
    }
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crm_refuses_is_a_dead_letter_in_its_own_words_and_is_sent_again_once_mended() {
    let (scene, portal, well) = (Scene::new().await, portal().await, org().await);
    scene
        .on_hubspot(
            "acme",
            &portal,
            "",
            "  fields: {hs_timestamp: started_at, no_such: title}",
        )
        .await;
    scene.on_salesforce("bolt", &well).await;
    let running = scene.run();
    for n in 0..3 {
        scene.call("acme", &format!("acme-{n}")).await;
        scene.call("bolt", &format!("bolt-{n}")).await;
    }
    scene.results(NoteResult::Failed, 3).await;
    scene.results(NoteResult::Written, 3).await;
    assert!(portal.records("calls").is_empty());
    let dead = scene.kafka.dead(&table::CRM_REQUESTS);
    let letters = eventually(DEADLINE, "three dead letters", async || {
        let letters = letters(&scene.kafka, &dead);
        (letters.len() == 3).then_some(letters)
    })
    .await;
    for (reason, detail) in &letters {
        assert_eq!(reason, "VALIDATION_ERROR");
        assert!(detail.contains("no_such"), "{detail}");
    }
    let desk = scene.desk().await;
    eventually(DEADLINE, "the preview shows the words", async || {
        let previews = crm::preview(&desk, "acme-0").await.unwrap();
        let detail = previews[0].state.clone()?.detail?;
        detail.contains("no_such").then_some(())
    })
    .await;

    // The mapping is mended, and the stage started again with it.
    running.stop().await;
    scene.on_hubspot("acme", &portal, "", "").await;
    let running = scene.run();
    let desk = scene.desk().await;
    assert_eq!(crm::redrive(&desk, "acme").await.unwrap(), 3);
    scene.results(NoteResult::Written, 6).await;
    assert_eq!(portal.records("calls").len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_a_secret_waits_for_it() {
    let (scene, portal) = (Scene::new().await, portal().await);
    let yaml = format!("hubspot:\n  url: {}\n", portal.url());
    scene.tenant("acme", &yaml, &[]).await;
    let running = scene.run();
    scene.call("acme", "call-1").await;
    let (_, parked) = scene.results(NoteResult::Parked, 1).await.remove(0);
    assert_eq!(parked.reason.as_deref(), Some("shut"));
    let desk = scene.desk().await;
    let status = crm::status(&desk).await.unwrap();
    let detail = status[0].connection.detail.clone().unwrap();
    assert!(detail.contains("coach crm secret acme hubspot"), "{detail}");
    let token = &portal.setup().private_app_token;
    desk.set_secret("acme", schemas::Crm::Hubspot, token)
        .await
        .unwrap();
    scene.results(NoteResult::Written, 1).await;
    running.stop().await;
}
