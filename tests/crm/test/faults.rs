//! Faults: what is written and what is answered under each, and that a seed decides them.

use std::time::{Duration, Instant};

use crm_servers::Fault;
use crm_servers::hubspot::HubSpot;
use serde_json::json;

use crate::hubspot::{input, private, setup};
use crate::{Client, answer, salesforce};

const UPSERT: &str = "/crm/v3/objects/calls/batch/upsert";
/// Longer than any answer takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_millis(700);

fn write(client: &Client, key: &str) -> reqwest::RequestBuilder {
    client
        .request(reqwest::Method::POST, UPSERT)
        .json(&json!({"inputs": [input(key)]}))
}

#[tokio::test]
async fn a_reset_is_a_reset_before_or_after_writing() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    portal.next(Fault::ResetBefore);
    let error = write(&client, "a").send().await.unwrap_err();
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert!(portal.records("calls").is_empty());
    portal.next(Fault::ResetAfter);
    assert!(write(&client, "a").send().await.is_err());
    assert_eq!(portal.records("calls").len(), 1);
    assert_eq!(answer(write(&client, "a")).await.0, 200);
    assert_eq!(portal.records("calls").len(), 1);
}

#[tokio::test]
async fn a_hang_never_answers_before_or_after_writing() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    for (fault, written) in [(Fault::HangBefore, 0), (Fault::HangAfter, 1)] {
        portal.next(fault);
        let sent = write(&client, "a").timeout(PATIENCE).send().await;
        assert!(sent.unwrap_err().is_timeout());
        assert_eq!(portal.records("calls").len(), written);
    }
    assert!(
        portal
            .requests()
            .iter()
            .all(|request| request.status.is_none())
    );
}

#[tokio::test]
async fn slow_and_malformed_answers_come_after_writing() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    portal.next(Fault::Slow(Duration::from_millis(100)));
    let begun = Instant::now();
    assert_eq!(answer(write(&client, "a")).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    portal.next(Fault::Malformed);
    let response = write(&client, "b").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.json::<serde_json::Value>().await.is_err());
    assert_eq!(portal.records("calls").len(), 2);
}

#[tokio::test]
async fn a_fault_that_stays_lasts_until_the_server_behaves() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    portal.always(Fault::Unavailable);
    for _ in 0..3 {
        assert_eq!(answer(write(&client, "a")).await.0, 503);
    }
    portal.behave();
    assert_eq!(answer(write(&client, "a")).await.0, 200);
}

#[tokio::test]
async fn locked_rows_are_salesforces_partial_failure() {
    let org = salesforce::org().await;
    let client = salesforce::client(&org).await;
    org.next(Fault::Partly);
    let path = "/services/data/v62.0/sobjects/Call_Coaching__c/Call_Id__c/a";
    let (status, body) = client.patch(path, json!({"Rep__c": "Ann"})).await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (400, &json!("UNABLE_TO_LOCK_ROW"))
    );
    org.next(Fault::Partly);
    let row = |key| json!({"attributes": {"type": "Call_Coaching__c"}, "Call_Id__c": key, "Rep__c": "Ann"});
    let records = [row("a"), row("b")];
    let path = "/services/data/v62.0/composite/sobjects/Call_Coaching__c/Call_Id__c";
    let (status, body) = client.patch(path, json!({"records": records})).await;
    assert_eq!(status, 200);
    assert_eq!(body[0]["errors"][0]["statusCode"], "UNABLE_TO_LOCK_ROW");
    assert_eq!(body[1]["success"], true);
    assert_eq!(org.writes().len(), 1);
    org.next(Fault::Unavailable);
    let (status, body) = client.get("/services/data/v62.0/limits").await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (503, &json!("SERVER_UNAVAILABLE"))
    );
    org.next(Fault::ExpiredTokens);
    let (status, body) = client.get("/services/data/v62.0/limits").await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (401, &json!("INVALID_SESSION_ID"))
    );
}

/// The faults of 60 requests.
async fn drawn(seed: u64) -> Vec<Option<Fault>> {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    let kinds = [Fault::Unavailable, Fault::Malformed, Fault::ResetAfter];
    portal.misbehave(seed, 0.4, &kinds);
    for number in 0..60 {
        // Its outcome is the fault's.
        let _ = write(&client, &number.to_string()).send().await;
    }
    // A client may try again on a new connection, so that there can be more.
    let faults = portal.requests().into_iter().take(60);
    faults.map(|request| request.fault).collect()
}

#[tokio::test]
async fn a_seed_decides_the_faults() {
    let (one, again, other) = (drawn(1).await, drawn(1).await, drawn(2).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    let hit = one.iter().flatten().count();
    assert!((10..40).contains(&hit), "{hit} of 60");
    for kind in [Fault::Unavailable, Fault::Malformed, Fault::ResetAfter] {
        assert!(one.contains(&Some(kind)), "{kind:?} never came");
    }
}
