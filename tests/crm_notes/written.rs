//! What is written, updated, taken out.

use consumers::crm;
use crm_servers::salesforce::{self, Field as Column, Object, Salesforce};
use harness::eventually;
use schemas::NoteResult;
use serde_json::json;

use crate::scene::{CUSTOMER, DEADLINE, SENTENCE, Scene, coaching, key, org, portal};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_has_its_note_in_hubspot_and_later_events_update_it() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    let running = scene.run();
    scene.call("acme", "call-1").await;
    let (call, note) = scene.results(NoteResult::Written, 1).await.remove(0);
    assert_eq!((call.as_str(), note.attempts), ("call-1", 1));
    let records = portal.records("calls");
    assert_eq!(records.len(), 1);
    assert_eq!(note.crm_id.as_ref(), Some(&records[0].id));
    let properties = &records[0].properties;
    assert_eq!(properties["sales_coach_key"], key("acme", "call-1"));
    assert_eq!(properties["hs_call_duration"], "60000");
    let body = properties["hs_call_body"].as_str().unwrap();
    assert!(body.contains("- Price: not shown"), "{body}");
    for personal in [SENTENCE, CUSTOMER] {
        assert!(!format!("{properties:?}").contains(personal), "{personal}");
    }

    scene.feedback("acme", "call-1").await;
    scene.results(NoteResult::Updated, 1).await;
    let desk = scene.desk().await;
    crm::outcome(&desk, "call-1", "won").await.unwrap();
    scene.results(NoteResult::Updated, 2).await;
    let records = portal.records("calls");
    assert_eq!(records.len(), 1);
    let body = records[0].properties["hs_call_body"].as_str().unwrap();
    assert!(
        body.contains("- Price: used") && body.contains("Outcome: won"),
        "{body}"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_has_its_note_in_salesforce_and_its_task_where_that_has_a_key() {
    let scene = Scene::new().await;
    let (plain, with_tasks) = (org().await, {
        let key = Column::text("Call_Key__c", 36).external_id().unique();
        let setup = salesforce::Setup::default().object(coaching());
        Salesforce::start(setup.object(Object::task().field(key))).await
    });
    scene.on_salesforce("acme", &plain).await;
    scene.on_salesforce("bolt", &with_tasks).await;
    let running = scene.run();
    scene.call("acme", "call-a").await;
    scene.call("bolt", "call-b").await;
    scene.results(NoteResult::Written, 2).await;
    for (org, tenant, call, tasks) in [
        (&plain, "acme", "call-a", 0),
        (&with_tasks, "bolt", "call-b", 1),
    ] {
        let records = org.records("Call_Coaching__c");
        assert_eq!(records.len(), 1, "{tenant}");
        assert_eq!(records[0].fields["Call_Key__c"], key(tenant, call));
        assert_eq!(records[0].fields["Duration_Seconds__c"], json!(60));
        assert_eq!(org.records("Task").len(), tasks, "{tenant}");
    }
    scene.feedback("acme", "call-a").await;
    scene.results(NoteResult::Updated, 1).await;
    let records = plain.records("Call_Coaching__c");
    assert_eq!(
        (records.len(), &records[0].fields["Tips_Used__c"]),
        (1, &json!(1))
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_names_and_quotes_the_customer_where_the_tenant_says_so() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene
        .on_hubspot("acme", &portal, "personal_content: true", "")
        .await;
    let running = scene.run();
    scene.call("acme", "call-1").await;
    scene.results(NoteResult::Written, 1).await;
    let body = portal.records("calls")[0].properties["hs_call_body"].to_string();
    assert!(body.contains(SENTENCE) && body.contains(CUSTOMER), "{body}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_hangs_on_the_contact_with_the_customers_number_which_is_masked_in_it() {
    let (scene, portal) = (Scene::new().await, portal().await);
    let (top, more) = ("personal_content: true", "  contacts: phone");
    scene.on_hubspot("acme", &portal, top, more).await;
    let number = "+493012345678";
    let contact = portal.add("contacts", json!({ "phone": number }));
    let running = scene.run();
    scene.call_of("acme", "call-1", number).await;
    scene.call_of("acme", "call-2", "+493087654321").await;
    scene.results(NoteResult::Written, 2).await;
    for record in portal.records("calls") {
        let ours = record.properties["sales_coach_key"] == key("acme", "call-1");
        let contacts = portal.associated("calls", &record.id, "contacts");
        assert_eq!(contacts, if ours { vec![contact.clone()] } else { vec![] });
        assert!(!format!("{:?}", record.properties).contains(number));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engagement_that_hubspot_made_itself_is_updated_and_never_doubled() {
    let (scene, portal) = (Scene::new().await, portal().await);
    scene
        .on_hubspot("acme", &portal, "", "  existing: hs_call_external_id")
        .await;
    let theirs = portal.add(
        "calls",
        json!({"hs_timestamp": "1790000000000", "hs_call_external_id": "call-1"}),
    );
    let running = scene.run();
    scene.call("acme", "call-1").await;
    scene.call("acme", "call-2").await;
    eventually(DEADLINE, "both calls have their notes", async || {
        let keyed = portal.count_by("calls", "sales_coach_key");
        (keyed.len() == 2).then_some(())
    })
    .await;
    scene.feedback("acme", "call-1").await;
    scene.results(NoteResult::Updated, 2).await;
    let records = portal.records("calls");
    assert_eq!(records.len(), 2);
    let adopted = records.iter().find(|record| record.id == theirs).unwrap();
    assert_eq!(adopted.properties["sales_coach_key"], key("acme", "call-1"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_note_is_gone_and_never_comes_back() {
    let (scene, portal, org) = (Scene::new().await, portal().await, org().await);
    scene.on_hubspot("acme", &portal, "", "").await;
    scene.on_salesforce("bolt", &org).await;
    let running = scene.run();
    for tenant in ["acme", "bolt"] {
        scene.call(tenant, &format!("{tenant}-1")).await;
    }
    scene.results(NoteResult::Written, 2).await;
    let desk = scene.desk().await;
    for tenant in ["acme", "bolt"] {
        let call = format!("{tenant}-1");
        let erased = crm::erase(&desk, &call, None).await.unwrap();
        assert!(erased.iter().all(|erased| erased.found), "{erased:?}");
        let again = crm::erase(&desk, &call, None).await.unwrap();
        assert!(again.iter().all(|erased| !erased.found), "{again:?}");
        scene.feedback(tenant, &call).await;
        scene.call(tenant, &call).await;
        scene.call(tenant, &format!("{tenant}-2")).await;
    }
    scene.results(NoteResult::Erased, 2).await;
    scene.results(NoteResult::Written, 4).await;
    assert_eq!(portal.count_by("calls", "sales_coach_key").len(), 1);
    assert!(
        portal
            .count_by("calls", "sales_coach_key")
            .contains_key(&key("acme", "acme-2"))
    );
    assert_eq!(org.records("Call_Coaching__c").len(), 1);
    running.stop().await;
}
