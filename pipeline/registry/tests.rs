use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::{Body, Event, EventId, Feedback, Head, Item, codec};
use serde_json::Value;

use super::*;

/// A registry as the API's manual describes it, strict about what it is sent.
#[derive(Clone, Default)]
struct Manual {
    schemas: Arc<Mutex<Vec<String>>>,
    subjects: Arc<Mutex<HashMap<String, Vec<u32>>>>,
    /// Answers with this instead, so many times.
    trouble: Arc<Mutex<Option<(u16, u32)>>>,
    requests: Arc<Mutex<u32>>,
}

const FIRST_ID: u32 = 100_001;

/// An error as the API answers it: HTTP status and the registry's own code.
struct Refusal(u16, i64);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.1, "message": "as the manual says" });
        (StatusCode::from_u16(self.0).unwrap(), Json(body)).into_response()
    }
}

impl Manual {
    async fn serve(&self) -> String {
        let routes = Router::new()
            .route("/subjects/{subject}", post(lookup))
            .route("/subjects/{subject}/versions", post(register))
            .route("/schemas/ids/{id}", get(by_id))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn judge(&self, headers: &HeaderMap) -> Option<Refusal> {
        *self.requests.lock().unwrap() += 1;
        if let Some((status, left)) = self.trouble.lock().unwrap().as_mut()
            && *left > 0
        {
            *left -= 1;
            return Some(Refusal(*status, i64::from(*status)));
        }
        // coach:hush
        let known = headers
            .get("authorization")
            .is_some_and(|v| v == "Basic Y29hY2g6aHVzaA==");
        (!known).then_some(Refusal(401, 40101))
    }

    fn id_of(&self, schema: &str) -> Option<u32> {
        let schemas = self.schemas.lock().unwrap();
        let at = schemas.iter().position(|known| known == schema)?;
        Some(FIRST_ID + u32::try_from(at).unwrap())
    }
}

fn schema_in(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    if headers.get("content-type").is_none_or(|kind| kind != MEDIA) {
        return Err(Refusal(415, 415));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| Refusal(422, 42201))?;
    let schema = body["schema"].as_str().ok_or(Refusal(422, 42201))?;
    apache_avro::Schema::parse_str(schema).map_err(|_| Refusal(422, 42201))?;
    Ok(schema.to_owned())
}

async fn lookup(
    State(manual): State<Manual>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    if let Some(refusal) = manual.judge(&headers) {
        return Err(refusal);
    }
    let schema = schema_in(&headers, &body)?;
    let subjects = manual.subjects.lock().unwrap();
    let ids = subjects.get(&subject).ok_or(Refusal(404, 40401))?;
    let id = manual.id_of(&schema).filter(|id| ids.contains(id));
    let id = id.ok_or(Refusal(404, 40403))?;
    Ok(
        Json(json!({ "subject": subject, "id": id, "version": 1, "schema": schema }))
            .into_response(),
    )
}

async fn register(
    State(manual): State<Manual>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    if let Some(refusal) = manual.judge(&headers) {
        return Err(refusal);
    }
    let schema = schema_in(&headers, &body)?;
    if subject.starts_with("taken.") {
        return Err(Refusal(409, 409));
    }
    let id = manual.id_of(&schema).unwrap_or_else(|| {
        manual.schemas.lock().unwrap().push(schema.clone());
        manual.id_of(&schema).unwrap()
    });
    manual
        .subjects
        .lock()
        .unwrap()
        .entry(subject)
        .or_default()
        .push(id);
    Ok(Json(json!({ "id": id })).into_response())
}

async fn by_id(State(manual): State<Manual>, Path(id): Path<u32>, headers: HeaderMap) -> Response {
    if let Some(refusal) = manual.judge(&headers) {
        return refusal.into_response();
    }
    let schemas = manual.schemas.lock().unwrap();
    match id
        .checked_sub(FIRST_ID)
        .and_then(|at| schemas.get(at as usize))
    {
        Some(schema) => Json(json!({ "schema": schema })).into_response(),
        None => Refusal(404, 40403).into_response(),
    }
}

fn settings(url: &str) -> RegistrySettings {
    RegistrySettings {
        url: Some(url.to_owned()),
        user: Some("coach".to_owned()),
        password: Some(Secret::new("hush")),
        ..RegistrySettings::default()
    }
}

fn open(settings: &RegistrySettings) -> SchemaRegistry {
    SchemaRegistry::open(settings).unwrap().unwrap()
}

fn event() -> Event<Feedback> {
    let tip_id = EventId::derive("test", "tip", 0);
    Event {
        head: Head {
            event_id: tip_id,
            call_id: "call-1".into(),
            tenant: "acme".into(),
            time: 1,
        },
        body: Body::Item(Feedback {
            tip_id,
            rep: "ana".into(),
            action: schemas::Action::Used,
        }),
    }
}

#[tokio::test]
async fn schemas_are_registered_once_and_written_under_the_registrys_ids() {
    let manual = Manual::default();
    let url = manual.serve().await;
    let codec = Codec::new().unwrap();
    open(&settings(&url))
        .assign_all(&codec, "test.")
        .await
        .unwrap();
    let bytes = codec.encode(&event()).unwrap();
    let subjects = manual.subjects.lock().unwrap().clone();
    assert_eq!(subjects.len(), topics::ALL.len());
    let id = subjects["test.coaching.feedback-value"][0];
    assert!(id >= FIRST_ID);
    assert_eq!(codec::schema_id(&bytes).unwrap(), id);
    assert_eq!(codec.decode::<Feedback>(&bytes).unwrap(), event());

    // The next process finds them and registers nothing, even when it must not.
    let careful = RegistrySettings {
        register: false,
        ..settings(&url)
    };
    open(&careful)
        .assign_all(&Codec::new().unwrap(), "test.")
        .await
        .unwrap();
    assert_eq!(*manual.subjects.lock().unwrap(), subjects);
    let error = open(&careful)
        .assign_all(&codec, "other.")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("other.calls.audio-value") && error.contains("register = true"),
        "{error}"
    );
}

#[tokio::test]
async fn a_schema_that_another_writer_registered_is_learned() {
    let manual = Manual::default();
    let registry = open(&settings(&manual.serve().await));
    let mut newer: Value = serde_json::from_str(Feedback::TOPIC.schema).unwrap();
    let added = json!({ "name": "added_later", "type": ["null", "string"], "default": null });
    newer["fields"].as_array_mut().unwrap().push(added);
    manual.schemas.lock().unwrap().push(newer.to_string());

    let codec = Codec::new().unwrap();
    let mut bytes = codec.encode(&event()).unwrap();
    bytes[1..5].copy_from_slice(&FIRST_ID.to_be_bytes());
    bytes.push(0);
    let Err(CodecError::UnknownSchema(id)) = codec.decode::<Feedback>(&bytes) else {
        panic!("the id is unknown at first")
    };
    codec
        .learn(id, &registry.schema(id).await.unwrap())
        .unwrap();
    assert_eq!(codec.decode::<Feedback>(&bytes).unwrap(), event());
    let unknown = registry.schema(FIRST_ID + 7).await.unwrap_err();
    assert!(matches!(unknown, RegistryError::UnknownId { .. }) && !unknown.is_transient());
}

#[tokio::test]
async fn a_registry_in_trouble_is_waited_for() {
    let manual = Manual::default();
    *manual.trouble.lock().unwrap() = Some((503, 2));
    let registry = open(&settings(&manual.serve().await));
    registry
        .assign_all(&Codec::new().unwrap(), "")
        .await
        .unwrap();
    assert_eq!(*manual.trouble.lock().unwrap(), Some((503, 0)));
    let nobody = open(&settings(&format!(
        "http://127.0.0.1:{}",
        harness::free_port()
    )));
    let error = nobody.schema(1).await.unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn what_waiting_cannot_cure_fails_at_once_with_the_reason() {
    let manual = Manual::default();
    let url = manual.serve().await;
    let codec = Codec::new().unwrap();
    let stranger = RegistrySettings {
        password: Some(Secret::new("guess")),
        ..settings(&url)
    };
    let error = open(&stranger)
        .assign_all(&codec, "")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("401") && !error.contains("guess"), "{error}");
    let error = open(&settings(&url))
        .assign_all(&codec, "taken.")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("409") && error.contains("taken.calls.audio-value"),
        "{error}"
    );
    let wrong = open(&settings(&format!("{url}wrong")));
    let error = wrong.schema(1).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Refused { status: 404, .. }),
        "{error}"
    );
    // The ids compiled in still stand.
    assert_eq!(
        codec::schema_id(&codec.encode(&event()).unwrap()).unwrap(),
        Feedback::TOPIC.schema_id
    );
    assert!(
        SchemaRegistry::open(&RegistrySettings::default())
            .unwrap()
            .is_none()
    );
}
