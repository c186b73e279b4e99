//! One note of every call: lost answers, partly failed batches, kills, two instances, replays.

use std::collections::BTreeMap;
use std::time::Duration;

use crm_servers::Fault;
use harness::eventually;
use schemas::NoteResult;

use crate::scene::{DEADLINE, Scene, key, org, portal};

const CALLS: usize = 40;

/// How many notes there are of each of so many calls: one.
fn one_each(tenant: &str, count: usize) -> BTreeMap<String, usize> {
    let keys = (0..count).map(|n| (key(tenant, &format!("{tenant}-{n}")), 1));
    keys.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_crms_do_every_call_has_one_note() {
    let (scene, portal, org) = (Scene::new().await, portal().await, org().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    scene.on_salesforce("bolt", &org).await;
    portal.misbehave(7, 0.3, &Fault::passing());
    org.misbehave(8, 0.3, &Fault::passing());
    let (first, second) = (scene.run(), scene.run());
    for n in 0..CALLS {
        scene.call("acme", &format!("acme-{n}")).await;
        scene.call("bolt", &format!("bolt-{n}")).await;
    }
    eventually(DEADLINE, "some notes are written", async || {
        (portal.records("calls").len() > 2).then_some(())
    })
    .await;
    // What it had read and not committed is read again by the others.
    first.kill().await;
    let third = scene.run();
    eventually(DEADLINE, "every call has its note", async || {
        let done = portal.count_by("calls", "sales_coach_key").len() == CALLS
            && org.count_by("Call_Coaching__c", "Call_Key__c").len() == CALLS;
        done.then_some(())
    })
    .await;
    for n in 0..CALLS {
        scene.feedback("acme", &format!("acme-{n}")).await;
    }
    portal.behave();
    org.behave();
    eventually(DEADLINE, "every note is updated", async || {
        let records = portal.records("calls");
        let used = records.iter().filter(|record| {
            let body = record.properties["hs_call_body"].as_str();
            body.is_some_and(|body| body.contains("- Price: used"))
        });
        (used.count() == CALLS).then_some(())
    })
    .await;
    assert_eq!(
        portal.count_by("calls", "sales_coach_key"),
        one_each("acme", CALLS)
    );
    assert_eq!(
        org.count_by("Call_Coaching__c", "Call_Key__c"),
        one_each("bolt", CALLS)
    );
    assert_eq!(portal.records("calls").len(), CALLS);
    assert_eq!(org.records("Call_Coaching__c").len(), CALLS);
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crm_that_is_broken_does_not_hold_up_the_others_notes() {
    let (mut scene, broken, well) = (Scene::new().await, portal().await, portal().await);
    scene.set("RETRY", "500ms");
    scene.on_hubspot("acme", &broken, "", "").await;
    scene.on_hubspot("bolt", &well, "", "").await;
    broken.always(Fault::HangBefore);
    let running = scene.run();
    for n in 0..10 {
        scene.call("acme", &format!("acme-{n}")).await;
        scene.call("bolt", &format!("bolt-{n}")).await;
    }
    eventually(
        DEADLINE,
        "the other tenant's notes are written",
        async || (well.records("calls").len() == 10).then_some(()),
    )
    .await;
    let parked = scene.results(NoteResult::Parked, 1).await;
    assert!(parked.iter().all(|(call, _)| call.starts_with("acme")));
    assert!(broken.records("calls").is_empty());
    broken.behave();
    eventually(
        DEADLINE,
        "the broken one's notes are written too",
        async || (broken.records("calls").len() == 10).then_some(()),
    )
    .await;
    assert_eq!(
        broken.count_by("calls", "sales_coach_key"),
        one_each("acme", 10)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_failed_partly_only_what_failed_is_sent_again() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    // All at once, so that they come in few batches.
    for n in 0..20 {
        scene.call("acme", &format!("acme-{n}")).await;
    }
    portal.next(Fault::Partly);
    let running = scene.run();
    eventually(
        Duration::from_secs(60),
        "every call has its note",
        async || (portal.records("calls").len() == 20).then_some(()),
    )
    .await;
    scene.results(NoteResult::Written, 20).await;
    let writes = portal.writes();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for write in writes.iter().filter(|write| write.object == "calls") {
        *times.entry(write.id.clone()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    running.stop().await;
}
