//! The read half of Confluent's schema registry API over the compiled-in schemas, so that a data
//! team's standard deserialiser reads the topics without a registry of its own. Schemas hold
//! nothing personal: no token is needed.
//! <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use schemas::{Topic, topics};
use serde::Deserialize;
use serde_json::{Value, json};

/// Each topic has one version of its schema: the one compiled in.
const VERSION: u32 = 1;
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// `/schemas` and `/subjects`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/schemas/types", get(async || ok(json!(["AVRO"]))))
        .route("/schemas/ids/{id}", get(schema))
        .route("/schemas/ids/{id}/schema", get(raw_schema))
        .route("/schemas/ids/{id}/versions", get(versions_of_schema))
        .route("/schemas/ids/{id}/subjects", get(subjects_of_schema))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup))
        .route("/subjects/{subject}/versions", get(versions))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route(
            "/subjects/{subject}/versions/{version}/schema",
            get(raw_version),
        )
        .route("/config", get(config))
        .route("/mode", get(async || ok(json!({"mode": "READONLY"}))))
}

/// The API's errors, by its own codes.
enum Missing {
    Subject(String),
    Version(String),
    BadVersion(String),
    Schema,
}

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Subject(name) => (404, 40401, format!("Subject '{name}' not found.")),
            Self::Version(version) => (404, 40402, format!("Version {version} not found.")),
            Self::Schema => (404, 40403, "Schema not found".to_owned()),
            Self::BadVersion(version) => (
                422,
                42202,
                format!("The specified version '{version}' is not a valid version id."),
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
        (status, ok(json!({"error_code": code, "message": message}))).into_response()
    }
}

fn ok(body: Value) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], Json(body)).into_response()
}

fn subject_of(topic: &Topic) -> String {
    format!("{}-value", topic.name)
}

fn by_id(id: &str) -> Result<&'static Topic, Missing> {
    let id: u32 = id.parse().map_err(|_| Missing::Schema)?;
    topics::ALL
        .iter()
        .find(|topic| topic.schema_id == id)
        .ok_or(Missing::Schema)
}

fn by_subject(subject: &str) -> Result<&'static Topic, Missing> {
    subject
        .strip_suffix("-value")
        .and_then(Topic::named)
        .ok_or_else(|| Missing::Subject(subject.to_owned()))
}

fn by_version(subject: &str, version: &str) -> Result<&'static Topic, Missing> {
    let topic = by_subject(subject)?;
    if version == "latest" || version == "-1" {
        return Ok(topic);
    }
    match version.parse::<u32>() {
        Ok(VERSION) => Ok(topic),
        Ok(0) | Err(_) => Err(Missing::BadVersion(version.to_owned())),
        Ok(_) => Err(Missing::Version(version.to_owned())),
    }
}

fn registered(topic: &Topic) -> Value {
    json!({
        "subject": subject_of(topic),
        "version": VERSION,
        "id": topic.schema_id,
        "schemaType": "AVRO",
        "schema": topic.schema,
    })
}

async fn schema(Path(id): Path<String>) -> Result<Response, Missing> {
    let topic = by_id(&id)?;
    Ok(ok(json!({"schemaType": "AVRO", "schema": topic.schema})))
}

async fn raw_schema(Path(id): Path<String>) -> Result<Response, Missing> {
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], by_id(&id)?.schema).into_response())
}

async fn versions_of_schema(Path(id): Path<String>) -> Result<Response, Missing> {
    let topic = by_id(&id)?;
    Ok(ok(
        json!([{"subject": subject_of(topic), "version": VERSION}]),
    ))
}

async fn subjects_of_schema(Path(id): Path<String>) -> Result<Response, Missing> {
    Ok(ok(json!([subject_of(by_id(&id)?)])))
}

async fn subjects() -> Response {
    ok(topics::ALL.iter().map(subject_of).collect())
}

async fn versions(Path(subject): Path<String>) -> Result<Response, Missing> {
    by_subject(&subject)?;
    Ok(ok(json!([VERSION])))
}

async fn version(Path((subject, version)): Path<(String, String)>) -> Result<Response, Missing> {
    Ok(ok(registered(by_version(&subject, &version)?)))
}

async fn raw_version(
    Path((subject, version)): Path<(String, String)>,
) -> Result<Response, Missing> {
    let topic = by_version(&subject, &version)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], topic.schema).into_response())
}

async fn config() -> Response {
    ok(json!({"compatibilityLevel": "FULL"}))
}

/// What a client sends to ask whether a schema is registered.
#[derive(Deserialize)]
struct Lookup {
    schema: String,
}

async fn lookup(Path(subject): Path<String>, body: axum::body::Bytes) -> Result<Response, Missing> {
    let topic = by_subject(&subject)?;
    // Read leniently: clients send the API's own content type, not application/json.
    let asked: Lookup = serde_json::from_slice(&body).map_err(|_| Missing::Schema)?;
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    match parse(&asked.schema) {
        Some(schema) if Some(&schema) == parse(topic.schema).as_ref() => Ok(ok(registered(topic))),
        _ => Err(Missing::Schema),
    }
}
