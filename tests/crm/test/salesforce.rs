//! Salesforce: tokens, upserts, collections, queries, limits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crm_servers::salesforce::{Field, Kind, Object, Salesforce, Setup};
use crm_servers::{Change, Fault, Policy};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Client, answer};

const V: &str = "/services/data/v62.0";
const AT: &str = "/services/data/v62.0/sobjects/Call_Coaching__c";

pub fn coaching() -> Object {
    Object::custom("Call_Coaching__c")
        .field(
            Field::text("Call_Id__c", 255)
                .external_id()
                .unique()
                .case_sensitive(),
        )
        .field(Field::text("Loose__c", 40).external_id())
        .field(Field::text("Outcome__c", 20))
        .field(Field::new("Duration__c", Kind::Number))
        .field(Field::new("Started__c", Kind::DateTime))
        .field(Field::picklist(
            "Sentiment__c",
            &["positive", "neutral", "negative"],
        ))
        .field(Field::reference("Contact__c", &["Contact"]))
        .field(Field::text("Rep__c", 80).required())
}

pub async fn org() -> Salesforce {
    Salesforce::start(Setup::default().object(coaching())).await
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims(org: &Salesforce) -> Value {
    json!({
        "iss": org.setup().client_id,
        "sub": org.setup().username,
        "aud": "https://login.salesforce.com",
        "exp": now() + 180,
    })
}

fn signed(key: &str, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
    encode(&Header::new(Algorithm::RS256), claims, &key).unwrap()
}

async fn grant(org: &Salesforce, assertion: &str) -> (u16, Value) {
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"
    );
    let request = reqwest::Client::new()
        .post(format!("{}/services/oauth2/token", org.url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    answer(request).await
}

pub async fn client(org: &Salesforce) -> Client {
    let (status, body) = grant(org, &signed(org.private_key(), &claims(org))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["instance_url"], org.url());
    Client::new(org.url(), body["access_token"].as_str().unwrap())
}

fn code(body: &Value) -> &str {
    body[0]["errorCode"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_token_needs_every_claim_to_be_right() {
    let org = org().await;
    let other = Salesforce::start(Setup::default()).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(&org);
        claims[name] = value;
        signed(org.private_key(), &claims)
    };
    for (assertion, error, description) in [
        (
            signed(other.private_key(), &claims(&org)),
            "invalid_grant",
            "invalid assertion",
        ),
        (
            with("iss", json!("someone")),
            "invalid_client_id",
            "client identifier invalid",
        ),
        (
            with("aud", json!("https://example.org")),
            "invalid_grant",
            "audience is invalid",
        ),
        (
            with("sub", json!("b@acme.example")),
            "invalid_grant",
            "user hasn't approved this consumer",
        ),
        (
            with("exp", json!(now() - 1)),
            "invalid_grant",
            "expired authorization code",
        ),
        // Milliseconds.
        (
            with("exp", json!((now() + 180) * 1_000)),
            "invalid_grant",
            "invalid assertion",
        ),
        (
            "no.such.token".to_owned(),
            "invalid_grant",
            "invalid assertion",
        ),
    ] {
        let (status, body) = grant(&org, &assertion).await;
        assert_eq!((status, &body["error"]), (400, &json!(error)), "{body}");
        assert_eq!(body["error_description"], description);
    }
    let header = Header::new(Algorithm::HS256);
    let key = EncodingKey::from_secret(b"a secret that both could know of");
    let shared = encode(&header, &claims(&org), &key).unwrap();
    assert_eq!(grant(&org, &shared).await.0, 400);
    client(&org).await;
}

#[tokio::test]
async fn an_expired_token_is_refused_and_a_new_one_is_not() {
    let org = Salesforce::start(Setup {
        token_lifetime: Duration::ZERO,
        ..Setup::default().object(coaching())
    })
    .await;
    let old = client(&org).await;
    let (status, body) = old.get(&format!("{V}/limits")).await;
    assert_eq!((status, code(&body)), (401, "INVALID_SESSION_ID"));
    let org = self::org().await;
    let old = client(&org).await;
    assert_eq!(old.get(&format!("{V}/limits")).await.0, 200);
    org.expire_tokens();
    assert_eq!(old.get(&format!("{V}/limits")).await.0, 401);
    assert_eq!(client(&org).await.get(&format!("{V}/limits")).await.0, 200);
}

#[tokio::test]
async fn an_upsert_creates_then_updates_and_counts_once() {
    let org = org().await;
    let client = client(&org).await;
    let path = format!("{AT}/Call_Id__c/acme%2Fcall%201");
    let (status, made) = client
        .patch(&path, json!({"Rep__c": "Ann", "Duration__c": 61.5}))
        .await;
    assert_eq!((status, &made["created"]), (201, &json!(true)), "{made}");
    let (status, again) = client.patch(&path, json!({"Outcome__c": "won"})).await;
    assert_eq!((status, &again["id"]), (200, &made["id"]), "{again}");
    let counts = org.count_by("Call_Coaching__c", "Call_Id__c");
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [("acme/call 1".to_owned(), 1)]
    );
    let changes: Vec<Change> = org.writes().iter().map(|write| write.change).collect();
    assert_eq!(changes, [Change::Created, Change::Updated]);
    let (_, read) = client
        .get(&format!("{path}?fields=Rep__c,Outcome__c"))
        .await;
    assert_eq!(
        (&read["Rep__c"], &read["Outcome__c"]),
        (&json!("Ann"), &json!("won"))
    );
    // Another letter's case is another call in a case-sensitive field.
    let other = format!("{AT}/Call_Id__c/ACME%2Fcall%201?updateOnly=true");
    assert_eq!(
        client.patch(&other, json!({"Outcome__c": "x"})).await.0,
        404
    );
    assert_eq!(client.delete(&path).await.0, 204);
    assert_eq!(client.get(&path).await.0, 404);
    let (status, body) = client
        .get(&format!("{AT}/{}", made["id"].as_str().unwrap()))
        .await;
    assert_eq!((status, code(&body)), (404, "ENTITY_IS_DELETED"));
    assert!(org.count_by("Call_Coaching__c", "Call_Id__c").is_empty());
}

#[tokio::test]
async fn what_the_object_does_not_take_is_refused() {
    let org = org().await;
    let client = client(&org).await;
    let contact = org.add("Contact", json!({"LastName": "Roe"}));
    let path = format!("{AT}/Call_Id__c/c1");
    for (body, status, wanted) in [
        (json!({"Rep__c": "Ann", "Nope__c": 1}), 400, "INVALID_FIELD"),
        (
            json!({"Rep__c": "Ann", "Call_Id__c": "c1"}),
            400,
            "INVALID_FIELD",
        ),
        (json!({"Outcome__c": "won"}), 400, "REQUIRED_FIELD_MISSING"),
        (
            json!({"Rep__c": "Ann", "Outcome__c": "x".repeat(21)}),
            400,
            "STRING_TOO_LONG",
        ),
        (
            json!({"Rep__c": "Ann", "Duration__c": "long"}),
            400,
            "JSON_PARSER_ERROR",
        ),
        (
            json!({"Rep__c": "Ann", "Started__c": "yesterday"}),
            400,
            "JSON_PARSER_ERROR",
        ),
        (
            json!({"Rep__c": "Ann", "Sentiment__c": "fine"}),
            400,
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        ),
        (
            json!({"Rep__c": "Ann", "Contact__c": "x"}),
            400,
            "MALFORMED_ID",
        ),
        (
            json!({"Rep__c": "Ann", "Contact__c": "0035g00009999999AA"}),
            400,
            "INVALID_CROSS_REFERENCE_KEY",
        ),
        (
            json!({"Rep__c": "Ann", "CreatedDate": "2026-11-25T00:00:00Z"}),
            400,
            "INVALID_FIELD_FOR_INSERT_UPDATE",
        ),
        (json!("text"), 400, "JSON_PARSER_ERROR"),
    ] {
        let answered = client.patch(&path, body.clone()).await;
        assert_eq!((answered.0, code(&answered.1)), (status, wanted), "{body}");
    }
    assert!(org.writes().is_empty());
    let good =
        json!({"Rep__c": "Ann", "Contact__c": contact, "Started__c": "2026-11-25T02:00:00Z"});
    assert_eq!(client.patch(&path, good).await.0, 201);

    let wrong_verb = client.post(&path, json!({})).await;
    assert_eq!(
        (wrong_verb.0, code(&wrong_verb.1)),
        (405, "METHOD_NOT_ALLOWED")
    );
    let no_object = client
        .patch(&format!("{V}/sobjects/Nope__c/Call_Id__c/c1"), json!({}))
        .await;
    assert_eq!((no_object.0, code(&no_object.1)), (404, "NOT_FOUND"));
    let no_key = client
        .patch(&format!("{AT}/Outcome__c/c1"), json!({}))
        .await;
    assert_eq!((no_key.0, code(&no_key.1)), (404, "NOT_FOUND"));
    let plain = client.request(Method::PATCH, &path).body("{}");
    assert_eq!(answer(plain).await.0, 415);
    assert_eq!(client.get("/services/data/v9.0/limits").await.0, 404);
}

#[tokio::test]
async fn several_matches_are_300_and_nothing_is_written() {
    let org = org().await;
    let client = client(&org).await;
    for _ in 0..2 {
        org.add(
            "Call_Coaching__c",
            json!({"Rep__c": "Ann", "Loose__c": "c1"}),
        );
    }
    let (status, body) = client
        .patch(&format!("{AT}/Loose__c/C1"), json!({"Rep__c": "Bo"}))
        .await;
    assert_eq!(status, 300);
    assert_eq!(body.as_array().unwrap().len(), 2);
    assert!(body[0].as_str().unwrap().starts_with(AT));
    let batch = json!({"records": [record("Loose__c", "c1")]});
    let (status, body) = client.patch(&collection("Loose__c"), batch).await;
    assert_eq!(status, 200);
    assert_eq!(body[0]["errors"][0]["statusCode"], "DUPLICATE_EXTERNAL_ID");
    assert!(org.writes().is_empty());
}

fn record(key: &str, value: &str) -> Value {
    json!({"attributes": {"type": "Call_Coaching__c"}, key: value, "Rep__c": "Ann"})
}

fn collection(key: &str) -> String {
    format!("{V}/composite/sobjects/Call_Coaching__c/{key}")
}

#[tokio::test]
async fn a_collection_answers_for_each_record() {
    let org = org().await;
    let client = client(&org).await;
    let mut bad = record("Call_Id__c", "bad");
    bad["Outcome__c"] = json!("x".repeat(21));
    let records = [
        record("Call_Id__c", "a"),
        bad.clone(),
        record("Call_Id__c", "twice"),
        record("Call_Id__c", "twice"),
    ];
    let (status, body) = client
        .patch(
            &collection("Call_Id__c"),
            json!({"allOrNone": false, "records": records}),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    let results: Vec<&str> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["errors"][0]["statusCode"].as_str().unwrap_or("written"))
        .collect();
    assert_eq!(
        results,
        [
            "written",
            "STRING_TOO_LONG",
            "DUPLICATE_VALUE",
            "DUPLICATE_VALUE"
        ]
    );
    assert_eq!(org.writes().len(), 1);

    let records = [record("Call_Id__c", "b"), bad];
    let (_, body) = client
        .patch(
            &collection("Call_Id__c"),
            json!({"allOrNone": true, "records": records}),
        )
        .await;
    let first = &body[0]["errors"][0]["statusCode"];
    assert_eq!(first, "ALL_OR_NONE_OPERATION_ROLLED_BACK");
    assert_eq!(org.records("Call_Coaching__c").len(), 1);
    assert_eq!(org.writes().len(), 1);

    let many: Vec<Value> = (0..201)
        .map(|n| record("Call_Id__c", &n.to_string()))
        .collect();
    let (status, body) = client
        .patch(&collection("Call_Id__c"), json!({"records": many}))
        .await;
    assert_eq!((status, code(&body)), (400, "EXCEEDED_ID_LIMIT"));
    let (status, body) = client
        .patch(&collection("Call_Id__c"), json!({"records": many[..200]}))
        .await;
    assert_eq!((status, body.as_array().unwrap().len()), (200, 200));
    for refused in [
        json!({"records": [{"Rep__c": "Ann", "Call_Id__c": "c"}]}),
        json!({"records": [], "allornone": true}),
        json!({"records": [{"attributes": {"type": "Task"}, "Subject": "x"}]}),
    ] {
        assert_eq!(
            client.patch(&collection("Call_Id__c"), refused).await.0,
            400
        );
    }
}

#[tokio::test]
async fn tasks_are_found_by_query_made_updated_and_deleted() {
    let org = org().await;
    let client = client(&org).await;
    let task = json!({
        "attributes": {"type": "Task"}, "Subject": "Call", "Status": "Completed",
        "Priority": "Normal", "CallObject": "it's\\1", "CallDurationInSeconds": 60,
    });
    let path = format!("{V}/composite/sobjects");
    let (status, made) = client.post(&path, json!({"records": [task]})).await;
    assert_eq!(status, 200);
    let id = made[0]["id"].as_str().unwrap();
    let query = "SELECT%20Id,%20Subject%20FROM%20Task%20WHERE%20CallObject%20IN%20('it\\'s\\\\1',%20'x')%20LIMIT%202";
    let (status, found) = client.get(&format!("{V}/query?q={query}")).await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(
        (&found["totalSize"], &found["records"][0]["Id"]),
        (&json!(1), &json!(id))
    );
    let bad = client
        .get(&format!(
            "{V}/query?q=SELECT%20Id%20FROM%20Task%20WHERE%20CallObject='it's'"
        ))
        .await;
    assert_eq!((bad.0, code(&bad.1)), (400, "MALFORMED_QUERY"));
    let bad = client
        .get(&format!("{V}/query?q=SELECT%20Nope%20FROM%20Task"))
        .await;
    assert_eq!((bad.0, code(&bad.1)), (400, "INVALID_FIELD"));
    let update =
        json!({"records": [{"attributes": {"type": "Task"}, "Id": id, "Subject": "Call 2"}]});
    let (_, body) = client.patch(&path, update).await;
    assert_eq!(body[0]["success"], true, "{body}");
    let (_, body) = client.delete(&format!("{path}?ids={id}")).await;
    assert_eq!(body[0]["success"], true);
    assert!(org.records("Task").is_empty());
}

#[tokio::test]
async fn describe_says_what_can_be_upserted_by() {
    let org = org().await;
    let client = client(&org).await;
    let (status, described) = client.get(&format!("{AT}/describe")).await;
    assert_eq!(status, 200);
    let fields = described["fields"].as_array().unwrap();
    let field = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap();
    assert_eq!(field("Call_Id__c")["externalId"], true);
    assert_eq!(field("Call_Id__c")["unique"], true);
    assert_eq!(field("Loose__c")["unique"], false);
    assert_eq!(field("Rep__c")["nillable"], false);
    assert_eq!(field("CreatedDate")["updateable"], false);
    let (_, task) = client.get(&format!("{V}/sobjects/Task/describe")).await;
    let fields = task["fields"].as_array().unwrap();
    assert!(fields.iter().all(|field| field["externalId"] == false));
    assert_eq!(
        client
            .get(&format!("{V}/sobjects/Nope__c/describe"))
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn limits_are_told_and_kept() {
    let org = Salesforce::start(Setup {
        daily_requests: 2,
        ..Setup::default()
    })
    .await;
    let client = client(&org).await;
    let limits = client.request(Method::GET, &format!("{V}/limits"));
    let response = limits.send().await.unwrap();
    assert_eq!(response.headers()["Sforce-Limit-Info"], "api-usage=1/2");
    assert_eq!(client.get(&format!("{V}/limits")).await.0, 200);
    let (status, body) = client.get(&format!("{V}/limits")).await;
    assert_eq!((status, code(&body)), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert!(
        body[0]["message"]
            .as_str()
            .unwrap()
            .contains("TotalRequests")
    );
    org.set_daily_used(0);
    org.next(Fault::Limit(Policy::Secondly));
    let (status, body) = client.get(&format!("{V}/limits")).await;
    assert_eq!(status, 403);
    assert!(
        body[0]["message"]
            .as_str()
            .unwrap()
            .contains("ConcurrentPerOrgLongTxn")
    );
    org.next(Fault::Limit(Policy::Daily));
    let (_, body) = client.get(&format!("{V}/limits")).await;
    assert!(
        body[0]["message"]
            .as_str()
            .unwrap()
            .contains("TotalRequests")
    );
}
