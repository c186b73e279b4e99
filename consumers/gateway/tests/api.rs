//! Tokens, feedback, schemas and headers.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::header::{COOKIE, ORIGIN, SET_COOKIE};
use schemas::{EventId, topics};
use serde_json::{Value, json};

use super::ANA;
use super::rig::{Call, Rig, SECRET, action, token};
use crate::gateway::{Claims, GatewayError, Settings, Shared, mint_token};

#[tokio::test]
async fn without_a_good_token_there_is_nothing_to_see() {
    let rig = Rig::new().await;
    let stale = Claims {
        tenant: "acme".into(),
        rep: "ana".into(),
        exp: 1,
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let stale = encode(&Header::default(), &stale, &key).unwrap();
    for (token, code) in [("nonsense", "token_invalid"), (&stale, "token_expired")] {
        let request = rig.http.get(rig.url("/v1/events")).bearer_auth(token);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], code);
    }
    // A token in a request line would end up in logs: it is no token.
    for path in [
        "/v1/events".to_owned(),
        format!("/v1/events?token={}", token("acme", "ana")),
    ] {
        let answer = rig.get(&path).await;
        assert_eq!(answer.status(), 401);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "token_missing");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let rig = Rig::new().await;
    let short = mint_token(SECRET, "acme", "ana", Duration::from_secs(2)).unwrap();
    let request = rig.http.get(rig.url("/v1/events")).bearer_auth(short);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    tokio::time::timeout(Duration::from_secs(5), answer.text())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_page_changes_its_token_for_a_cookie_that_only_it_can_use() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let (tip, record) = call.tip(1, 60_000);
    rig.take(record);
    let own = format!("http://{}", rig.address);
    let open = |origin: &str, token: String| {
        let request = rig.http.post(rig.url("/v1/session")).header(ORIGIN, origin);
        request.json(&json!({"token": token})).send()
    };
    assert_eq!(open(&own, "nonsense".into()).await.unwrap().status(), 401);
    let foreign = open("https://evil.example", token("acme", "ana"))
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    let opened = open(&own, token("acme", "ana")).await.unwrap();
    let cookie = opened.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(opened.json::<Value>().await.unwrap()["rep"], "ana");
    let cookie = cookie.split(';').next().unwrap();

    let shown = rig
        .http
        .get(rig.url("/v1/session"))
        .header(COOKIE, cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap()["tenant"], "acme");
    let post = |origin: Option<&str>| {
        let request = rig.http.post(rig.url(&format!("/v1/tips/{tip}/feedback")));
        let request = request
            .header(COOKIE, format!("other=1; {cookie}"))
            .json(&action("used"));
        match origin {
            Some(origin) => request.header(ORIGIN, origin).send(),
            None => request.send(),
        }
    };
    assert_eq!(
        post(Some("https://evil.example")).await.unwrap().status(),
        403
    );
    assert_eq!(post(None).await.unwrap().status(), 403);
    assert_eq!(post(Some(&own)).await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_framed_panel_gets_a_cookie_of_its_own_over_https() {
    let rig = Rig::with(|settings| {
        settings.https = true;
        settings.frame_ancestors = vec!["https://phone.example.com".into()];
    })
    .await;
    let open = rig.http.post(rig.url("/v1/session"));
    let opened = open
        .json(&json!({"token": token("acme", "ana")}))
        .send()
        .await
        .unwrap();
    let cookie = opened.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.contains("SameSite=None; Secure; Partitioned"),
        "{cookie}"
    );
    let page = rig.get("/").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.ends_with("frame-ancestors 'self' https://phone.example.com"),
        "{policy}"
    );
    assert!(page.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn feedback_becomes_one_event_of_the_call() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let (tip, record) = call.tip(1, 60_000);
    rig.take(record);
    let mut screen = rig.screen("acme", "ana").await;
    screen.backlog().await;
    let (status, first) = rig.feedback(ANA, tip, action("dismissed")).await;
    assert_eq!(status, 201);
    let (status, again) = rig.feedback(ANA, tip, action("dismissed")).await;
    assert_eq!((status, &again["event_id"]), (201, &first["event_id"]));
    let event = rig.kept.0.lock().unwrap().clone().unwrap().remove(0);
    assert_eq!(event.head.event_id.to_string(), first["event_id"]);
    assert_eq!(
        (&*event.head.call_id, &*event.head.tenant),
        ("call-1", "acme")
    );

    rig.take(call.did(0, event));
    let told = screen.expect("feedback").await;
    assert_eq!(told.data, json!({"tip_id": tip, "action": "dismissed"}));
    let (status, known) = rig.feedback(ANA, tip, action("dismissed")).await;
    assert_eq!((status, &known["event_id"]), (200, &first["event_id"]));
    let (status, other) = rig.feedback(ANA, tip, action("used")).await;
    assert_eq!(status, 201);
    assert_ne!(other["event_id"], first["event_id"]);
    assert_eq!(rig.kept.0.lock().unwrap().as_ref().unwrap().len(), 3);
}

#[tokio::test]
async fn feedback_that_makes_no_sense_is_refused_with_a_reason() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let (tip, record) = call.tip(1, 60_000);
    rig.take(record);
    for body in [
        action("liked"),
        json!({}),
        json!({"action": "used", "rep": "bob"}),
    ] {
        let (status, answer) = rig.feedback(ANA, tip, body).await;
        assert_eq!(status, 422);
        assert_eq!(answer["error"]["code"], "body_invalid");
        assert!(!answer["error"]["message"].as_str().unwrap().is_empty());
    }
    let unknown = EventId::derive("test", "nowhere", 0);
    let (status, answer) = rig.feedback(ANA, unknown, action("used")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (404, &json!("not_found"))
    );
    *rig.kept.0.lock().unwrap() = None;
    let (status, answer) = rig.feedback(ANA, tip, action("used")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("unavailable"))
    );
}

#[tokio::test]
async fn the_schemas_are_served_as_a_registry_serves_them() {
    let rig = Rig::new().await;
    let json = async |path: &str| -> (u16, Value) {
        let answer = rig.get(path).await;
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert_eq!(kind, "application/vnd.schemaregistry.v1+json", "{path}");
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let (_, subjects) = json("/subjects").await;
    assert_eq!(subjects.as_array().unwrap().len(), topics::ALL.len());
    for topic in topics::ALL {
        let (status, found) = json(&format!("/schemas/ids/{}?subject=x", topic.schema_id)).await;
        assert_eq!((status, &found["schema"]), (200, &json!(topic.schema)));
        for version in ["1", "latest", "-1"] {
            let path = format!("/subjects/{}-value/versions/{version}", topic.name);
            let (status, found) = json(&path).await;
            assert_eq!((status, &found["id"]), (200, &json!(topic.schema_id)));
        }
        let body = json!({"schema": topic.schema.replace('\n', " ")}).to_string();
        let lookup = rig
            .http
            .post(rig.url(&format!("/subjects/{}-value", topic.name)));
        let found: Value = lookup
            .body(body)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(found["id"], json!(topic.schema_id));
    }
    assert_eq!(json("/schemas/types").await.1, json!(["AVRO"]));
    assert_eq!(
        json("/subjects/coaching.tips-value/versions").await.1,
        json!([1])
    );
    let place = json!([{"subject": "coaching.tips-value", "version": 1}]);
    assert_eq!(json("/schemas/ids/4/versions").await.1, place);
    for (path, code) in [
        ("/schemas/ids/99", 40403),
        ("/schemas/ids/x", 40403),
        ("/subjects/nothing-value/versions", 40401),
        ("/subjects/coaching.tips/versions/1", 40401),
        ("/subjects/coaching.tips-value/versions/2", 40402),
        ("/subjects/coaching.tips-value/versions/x", 42202),
    ] {
        let (status, error) = json(path).await;
        assert_eq!(u64::from(status), code / 100, "{path}");
        assert_eq!(error["error_code"], json!(code), "{path}");
    }
}

#[tokio::test]
async fn the_panel_is_served_with_headers_that_keep_it_safe() {
    let rig = Rig::new().await;
    let page = rig.get("/").await;
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    let policy = header("content-security-policy");
    assert!(policy.contains("script-src 'self';"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    let (tag, html) = (header("etag"), page.text().await.unwrap());
    let again = rig.http.get(rig.url("/")).header("if-none-match", tag);
    assert_eq!(again.send().await.unwrap().status(), 304);
    let files = html
        .split('"')
        .filter(|part| part.starts_with('/') && part.contains('.'));
    for file in files {
        let answer = rig.get(file).await;
        assert_eq!(answer.status(), 200, "{file}");
        assert_ne!(
            answer.headers()["content-type"],
            "application/octet-stream",
            "{file}"
        );
    }
    assert!(
        !html.contains("<style") && !html.contains("style="),
        "no inline style"
    );
    let missing = rig.get("/nothing").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn only_allowed_origins_may_call_the_api_from_their_own_pages() {
    let allowed = "https://phone.example.com";
    let rig = Rig::with(|settings| settings.allowed_origins = vec![allowed.into()]).await;
    for (origin, expected) in [(allowed, Some(allowed)), ("https://evil.example", None)] {
        let request = rig.http.get(rig.url("/v1/events")).header(ORIGIN, origin);
        let answer = request
            .bearer_auth(token("acme", "ana"))
            .send()
            .await
            .unwrap();
        let header = answer.headers().get("access-control-allow-origin");
        assert_eq!(header.map(|value| value.to_str().unwrap()), expected);
    }
}

#[tokio::test]
async fn wrong_settings_are_all_named() {
    let rig = Rig::new().await;
    let stop = rig.shared.stop.clone();
    let registry = prometheus::Registry::new();
    let settings = Settings {
        screens_per_rep: 0,
        ..Settings::default()
    };
    let error = Shared::new(settings, &rig.sealer, &registry, rig.kept.clone(), stop).err();
    let Some(GatewayError::Settings(problems)) = error else {
        panic!("not refused");
    };
    assert_eq!(problems.len(), 2, "{problems:?}");
}
