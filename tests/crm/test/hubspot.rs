//! HubSpot: tokens, batches, associations, calling extensions, search, limits.

use std::time::Duration;

use crm_servers::hubspot::{HubSpot, Kind, Property, Setup};
use crm_servers::{Change, Fault, Policy};
use harness::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Client, answer};

const UPSERT: &str = "/crm/v3/objects/calls/batch/upsert";
const CONNECTED: &str = "f240bbac-87c9-4f6e-bf70-924b57d47db7";

pub fn setup() -> Setup {
    Setup {
        call_properties: vec![
            Property::new("call_key", Kind::Text).unique(),
            Property::new("talk_ratio", Kind::Number),
        ],
        ..Setup::default()
    }
}

pub fn private(portal: &HubSpot) -> Client {
    Client::new(portal.url(), &portal.setup().private_app_token)
}

async fn exchange(portal: &HubSpot, refresh_token: &str) -> (u16, Value) {
    let setup = portal.setup();
    let form = format!(
        "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={refresh_token}",
        setup.client_id, setup.client_secret
    );
    let request = reqwest::Client::new()
        .post(format!("{}/oauth/v1/token", portal.url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    answer(request).await
}

async fn public(portal: &HubSpot) -> Client {
    let (status, body) = exchange(portal, &portal.setup().refresh_token).await;
    assert_eq!(status, 200, "{body}");
    Client::new(portal.url(), body["access_token"].as_str().unwrap())
}

pub fn input(key: &str) -> Value {
    json!({
        "id": key, "idProperty": "call_key", "objectWriteTraceId": format!("trace-{key}"),
        "properties": {
            "hs_timestamp": "1795572000000", "hs_call_title": "Call", "hs_call_duration": "61000",
            "hs_call_disposition": CONNECTED, "hs_call_status": "COMPLETED",
        },
    })
}

fn without_trace(key: &str) -> Value {
    let mut input = input(key);
    input.as_object_mut().unwrap().remove("objectWriteTraceId");
    input
}

#[tokio::test]
async fn an_access_token_expires_and_the_private_apps_does_not() {
    let portal = HubSpot::start(setup()).await;
    let (status, body) = exchange(&portal, "other").await;
    assert_eq!(
        (status, &body["status"]),
        (400, &json!("BAD_REFRESH_TOKEN"))
    );
    let client = public(&portal).await;
    let path = "/crm/v3/properties/calls";
    assert_eq!(client.get(path).await.0, 200);
    portal.expire_tokens();
    let (status, body) = client.get(path).await;
    assert_eq!(
        (status, &body["category"]),
        (401, &json!("EXPIRED_AUTHENTICATION"))
    );
    assert_eq!(public(&portal).await.get(path).await.0, 200);
    assert_eq!(private(&portal).get(path).await.0, 200);
    assert_eq!(Client::new(portal.url(), "nonsense").get(path).await.0, 401);
}

#[tokio::test]
async fn an_upsert_creates_then_updates_in_either_version() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    let (status, made) = client
        .post(UPSERT, json!({"inputs": [input("a"), input("b")]}))
        .await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(made["results"][0]["new"], true);
    assert_eq!(made["results"][0]["objectWriteTraceId"], "trace-a");
    let dated = "/crm/objects/2026-03/calls/batch/upsert";
    let (status, again) = client.post(dated, json!({"inputs": [input("a")]})).await;
    assert_eq!((status, &again["results"][0]["new"]), (200, &json!(false)));
    assert_eq!(again["results"][0]["id"], made["results"][0]["id"]);
    let counts: Vec<_> = portal.count_by("calls", "call_key").into_iter().collect();
    assert_eq!(counts, [("a".to_owned(), 1), ("b".to_owned(), 1)]);
    let id = made["results"][0]["id"].as_str().unwrap();
    let (_, read) = client
        .get("/crm/v3/objects/calls/a?idProperty=call_key&properties=hs_call_title")
        .await;
    assert_eq!(
        (&read["id"], &read["properties"]["hs_call_title"]),
        (&json!(id), &json!("Call"))
    );
    assert_eq!(
        client
            .delete(&format!("/crm/v3/objects/calls/{id}"))
            .await
            .0,
        204
    );
    assert_eq!(
        client.get(&format!("/crm/v3/objects/calls/{id}")).await.0,
        404
    );
    let changes: Vec<Change> = portal.writes().iter().map(|write| write.change).collect();
    assert_eq!(
        changes,
        [
            Change::Created,
            Change::Created,
            Change::Updated,
            Change::Deleted
        ]
    );
    // A version that this account does not have.
    assert_eq!(
        client
            .post("/crm/objects/2025-01/calls/batch/upsert", json!({}))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn what_a_batch_may_not_hold_is_refused_whole() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    let with = |name: &str, value: Value| {
        let mut input = without_trace("a");
        input["properties"][name] = value;
        json!({"inputs": [without_trace("b"), input]})
    };
    let mut not_unique = without_trace("a");
    not_unique["idProperty"] = json!("hs_call_external_id");
    let mut no_property = without_trace("a");
    no_property.as_object_mut().unwrap().remove("idProperty");
    let mut no_time = without_trace("a");
    no_time["properties"]
        .as_object_mut()
        .unwrap()
        .remove("hs_timestamp");
    let many: Vec<Value> = (0..101).map(|n| input(&n.to_string())).collect();
    for (body, says) in [
        (with("nope", json!("1")), "PROPERTY_DOESNT_EXIST"),
        (with("hs_call_duration", json!("long")), "INVALID_INTEGER"),
        (with("hs_call_status", json!("DONE")), "INVALID_OPTION"),
        (with("hs_object_id", json!("1")), "READ_ONLY_VALUE"),
        (with("hs_timestamp", json!("now")), "INVALID_LONG"),
        (
            json!({"inputs": [not_unique]}),
            "non-unique 0-48 property hs_call_external_id",
        ),
        (json!({"inputs": [no_property]}), "idProperty"),
        (json!({"inputs": [no_time]}), "hs_timestamp"),
        (json!({"inputs": [input("a"), input("a")]}), "Duplicate IDs"),
        (json!({"inputs": many}), "1 to 100"),
        (json!({"inputs": []}), "1 to 100"),
        (json!({"inputs": [input("a")], "more": 1}), "unknown field"),
    ] {
        let (status, answered) = client.post(UPSERT, body).await;
        assert_eq!(
            (status, &answered["category"]),
            (400, &json!("VALIDATION_ERROR")),
            "{says}"
        );
        assert!(
            answered["message"].as_str().unwrap().contains(says),
            "{says}: {answered}"
        );
        assert!(answered["correlationId"].is_string());
    }
    assert!(portal.writes().is_empty());
    assert_eq!(
        client.post(UPSERT, json!({"inputs": many[..100]})).await.0,
        200
    );
    let (status, body) = client.send(Method::PUT, UPSERT, json!({})).await;
    assert_eq!(
        (status, &body["category"]),
        (405, &json!("METHOD_NOT_ALLOWED"))
    );
}

#[tokio::test]
async fn with_traces_only_what_fails_is_not_written() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    let mut bad = input("bad");
    bad["properties"]["nope"] = json!("1");
    let (status, body) = client
        .post(UPSERT, json!({"inputs": [input("a"), bad]}))
        .await;
    assert_eq!((status, &body["numErrors"]), (207, &json!(1)), "{body}");
    assert_eq!(body["results"].as_array().unwrap().len(), 1);
    assert_eq!(
        body["errors"][0]["context"]["objectWriteTraceId"],
        json!(["trace-bad"])
    );
    assert_eq!(portal.records("calls").len(), 1);
    portal.next(Fault::Partly);
    let (status, body) = client
        .post(UPSERT, json!({"inputs": [input("c"), input("d")]}))
        .await;
    assert_eq!((status, &body["numErrors"]), (207, &json!(1)));
    assert_eq!(
        body["errors"][0]["context"]["objectWriteTraceId"],
        json!(["trace-c"])
    );
    assert_eq!(portal.count_by("calls", "call_key").len(), 2);
}

#[tokio::test]
async fn properties_are_listed_and_made() {
    let portal = HubSpot::start(Setup::default()).await;
    let client = private(&portal);
    let path = "/crm/v3/properties/calls";
    assert_eq!(client.get(&format!("{path}/coach_key")).await.0, 404);
    let wanted = json!({
        "name": "coach_key", "label": "Key", "type": "string", "fieldType": "text",
        "groupName": "call", "hasUniqueValue": true,
    });
    assert_eq!(client.post(path, wanted.clone()).await.0, 201);
    assert_eq!(client.post(path, wanted).await.0, 409);
    let (_, read) = client.get("/crm/properties/2026-03/calls/coach_key").await;
    assert_eq!(read["hasUniqueValue"], true);
    let body = json!({"inputs": [{"id": "a", "idProperty": "coach_key", "properties": {"hs_timestamp": "1"}}]});
    assert_eq!(client.post(UPSERT, body).await.0, 200);
    let setup = Setup {
        scopes: vec!["crm.objects.contacts.read".to_owned()],
        ..Setup::default()
    };
    let poor = HubSpot::start(setup).await;
    let (status, body) = private(&poor).get(path).await;
    assert_eq!((status, &body["category"]), (403, &json!("MISSING_SCOPES")));
}

#[tokio::test]
async fn associating_twice_is_associating_once() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    let contact = portal.add("contacts", json!({"email": "roe@example.com"}));
    let (_, made) = client.post(UPSERT, json!({"inputs": [input("a")]})).await;
    let call = made["results"][0]["id"].as_str().unwrap();
    let path = format!("/crm/v4/objects/calls/{call}/associations/default/contacts/{contact}");
    for _ in 0..2 {
        let (status, body) = answer(client.request(Method::PUT, &path)).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(
            body["results"][0]["associationSpec"]["associationTypeId"],
            194
        );
    }
    let pairs = json!({"inputs": [
        {"from": {"id": call}, "to": {"id": contact}},
        {"from": {"id": call}, "to": {"id": "1"}},
    ]});
    for path in [
        "/crm/v4/associations/calls/contacts/batch/associate/default",
        "/crm/associations/2026-03/calls/contacts/batch/associate/default",
    ] {
        let (status, body) = client.post(path, pairs.clone()).await;
        assert_eq!((status, &body["numErrors"]), (207, &json!(1)), "{body}");
    }
    assert_eq!(portal.associated("calls", call, "contacts"), [contact]);
    let missing = "/crm/v4/objects/calls/1/associations/default/contacts/2";
    assert_eq!(answer(client.request(Method::PUT, missing)).await.0, 404);
}

#[tokio::test]
async fn an_inbound_call_makes_an_engagement_that_is_found_by_its_external_id() {
    let portal = HubSpot::start(Setup {
        search_lag: Duration::from_millis(300),
        ..setup()
    })
    .await;
    let client = public(&portal).await;
    let call = json!({
        "createEngagement": true, "engagementProperties": {"hs_call_title": "Inbound"},
        "externalCallId": "call-1", "finalCallStatus": "COMPLETED",
        "fromNumber": {"e164Number": "+15550100"}, "toNumber": {"e164Number": "+15550101"},
        "potentialRecipientUserIds": [1],
    });
    let path = "/crm/v3/extensions/calling/inbound-call";
    let (status, body) = client.post(path, call.clone()).await;
    assert_eq!((status, &body), (200, &json!({"callerIdMatches": []})));
    assert_eq!(client.post(path, call.clone()).await.0, 200);
    assert_eq!(portal.records("calls").len(), 1);
    assert_eq!(private(&portal).post(path, call).await.0, 403);

    let search = json!({
        "filterGroups": [{"filters": [
            {"propertyName": "hs_call_external_id", "operator": "EQ", "value": "call-1"},
        ]}],
        "properties": ["hs_call_title"], "limit": 5,
    });
    let path = "/crm/v3/objects/calls/search";
    let (_, early) = client.post(path, search.clone()).await;
    assert_eq!(early["total"], 0);
    let found = eventually(Duration::from_secs(20), "it is indexed", async || {
        let (status, found) = client.post(path, search.clone()).await;
        (status == 200 && found["total"] == 1).then_some(found)
    })
    .await;
    let id = found["results"][0]["id"].as_str().unwrap();
    // Given our own key, an upsert updates it and makes no other.
    let key = json!({"inputs": [{"id": id, "properties": {"call_key": "a"}}]});
    assert_eq!(
        client
            .post("/crm/v3/objects/calls/batch/update", key)
            .await
            .0,
        200
    );
    let (_, body) = client.post(UPSERT, json!({"inputs": [input("a")]})).await;
    assert_eq!(body["results"][0]["id"], id);
    assert_eq!(portal.records("calls").len(), 1);
}

#[tokio::test]
async fn transcripts_are_made_read_and_deleted_by_public_apps_only() {
    let portal = HubSpot::start(setup()).await;
    let client = public(&portal).await;
    let (_, made) = client.post(UPSERT, json!({"inputs": [input("a")]})).await;
    let call: u64 = made["results"][0]["id"].as_str().unwrap().parse().unwrap();
    let utterance = |start: i64, end: i64| json!({"speaker": {"id": 1, "name": "Rep"}, "text": "Hello", "startTimeMillis": start, "endTimeMillis": end});
    let path = "/crm/v3/extensions/calling/transcripts";
    let good = json!({"engagementId": call, "transcriptCreateUtterances": [utterance(0, 10)]});
    assert_eq!(private(&portal).post(path, good.clone()).await.0, 403);
    let (status, made) = client.post(path, good.clone()).await;
    assert_eq!(status, 200, "{made}");
    for (field, value) in [
        ("engagementId", json!(1)),
        ("engagementId", json!(null)),
        ("transcriptCreateUtterances", json!([])),
        ("transcriptCreateUtterances", json!([utterance(10, 10)])),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let status = client.post(path, bad).await.0;
        assert!(matches!(status, 400 | 404), "{field}: {status}");
    }
    let own = format!("{path}/{}", made["id"].as_str().unwrap());
    assert_eq!(
        client.get(&own).await.1["transcriptUtterances"][0]["text"],
        "Hello"
    );
    assert_eq!(client.delete(&own).await.0, 204);
    assert_eq!(client.get(&own).await.0, 404);
    assert!(portal.transcripts().is_empty());
}

#[tokio::test]
async fn a_batch_read_says_what_is_not_there() {
    let portal = HubSpot::start(setup()).await;
    let client = private(&portal);
    client
        .post(UPSERT, json!({"inputs": [input("a"), input("b")]}))
        .await;
    let body = json!({
        "inputs": [{"id": "b"}, {"id": "z"}], "idProperty": "call_key", "properties": ["call_key"],
    });
    let (status, read) = client.post("/crm/v3/objects/calls/batch/read", body).await;
    assert_eq!(
        (status, &read["results"][0]["properties"]["call_key"]),
        (207, &json!("b"))
    );
    assert_eq!(read["errors"][0]["context"]["ids"], json!(["z"]));
}

#[tokio::test]
async fn limits_are_told_and_kept() {
    let portal = HubSpot::start(Setup {
        ten_secondly: 3,
        daily_requests: 100,
        ..setup()
    })
    .await;
    let client = private(&portal);
    let path = "/crm/v3/properties/calls/hs_timestamp";
    let response = client.request(Method::GET, path).send().await.unwrap();
    let headers = response.headers();
    assert_eq!(headers["x-hubspot-ratelimit-max"], "3");
    assert_eq!(headers["x-hubspot-ratelimit-remaining"], "2");
    assert_eq!(
        headers["x-hubspot-ratelimit-interval-milliseconds"],
        "10000"
    );
    assert_eq!(headers["x-hubspot-ratelimit-daily-remaining"], "99");
    assert_eq!(client.get(path).await.0, 200);
    assert_eq!(client.get(path).await.0, 200);
    let response = client.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["policyName"], "TEN_SECONDLY_ROLLING");
    portal.set_daily_used(100);
    assert_eq!(client.get(path).await.1["policyName"], "DAILY");
    for policy in [Policy::TenSecondlyRolling, Policy::Secondly, Policy::Daily] {
        portal.next(Fault::Limit(policy));
        let (status, body) = client.get(path).await;
        assert_eq!((status, &body["policyName"]), (429, &json!(policy.name())));
        assert_eq!(body["errorType"], "RATE_LIMIT");
    }
}
