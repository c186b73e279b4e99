//! What of the REST API there is.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, OriginalUri, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::records::{self, Unwritten};
use super::refusal::Refusal;
use super::schema::{Field, Object};
use super::{Org, collections, soql, token};
use crate::Change;
use crate::fault::Partly;
use crate::front;

pub(super) type Asked = State<Arc<Org>>;

/// The oldest and newest API version served.
const VERSIONS: std::ops::RangeInclusive<u32> = 50..=67;

pub(super) fn router(org: Arc<Org>) -> Router {
    let data = Router::new()
        .route("/", get(resources))
        .route("/limits", get(limits))
        .route("/query", get(query))
        .route("/sobjects", get(global))
        .route("/sobjects/{object}", post(create))
        .route("/sobjects/{object}/describe", get(describe))
        .route(
            "/sobjects/{object}/{id}",
            get(read).patch(update).delete(delete),
        )
        .route(
            "/sobjects/{object}/{field}/{value}",
            get(read_by).patch(upsert).delete(delete_by),
        )
        .route(
            "/composite/sobjects",
            post(collections::create)
                .patch(collections::update)
                .delete(collections::delete),
        )
        .route(
            "/composite/sobjects/{object}/{field}",
            patch(collections::upsert),
        )
        .layer(from_fn_with_state(org.clone(), admit));
    Router::new()
        .nest("/services/data/{version}", data)
        .route("/services/data", get(versions))
        .route("/services/oauth2/token", post(grant))
        .fallback(async || Refusal::not_found("The requested resource does not exist"))
        .method_not_allowed_fallback(wrong_verb)
        .layer(from_fn_with_state(org.clone(), front::pass::<Org>))
        .with_state(org)
}

async fn wrong_verb(method: Method) -> Refusal {
    let message = format!("HTTP Method '{method}' not allowed.");
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        message,
    )
}

/// Lets a request in that has a valid token and a version, and counts it.
async fn admit(
    State(org): Asked,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let known = uri
        .path()
        .split('/')
        .nth(3)
        .and_then(|version| version.strip_prefix('v')?.strip_suffix(".0")?.parse().ok())
        .is_some_and(|version| VERSIONS.contains(&version));
    if !known {
        return Refusal::not_found("The requested resource does not exist").into_response();
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let valid = token.is_some_and(|token| {
        let tokens = org.tokens();
        tokens
            .get(token)
            .is_some_and(|until| Instant::now() < *until)
    });
    if !valid {
        return Refusal::session().into_response();
    }
    if !org.daily().take() {
        return Refusal::new(
            StatusCode::FORBIDDEN,
            "REQUEST_LIMIT_EXCEEDED",
            "TotalRequests Limit exceeded.",
        )
        .into_response();
    }
    let mut response = next.run(request).await;
    let usage = {
        let daily = org.daily();
        format!("api-usage={}/{}", daily.used, daily.most)
    };
    if let Ok(usage) = HeaderValue::from_str(&usage) {
        response.headers_mut().insert("Sforce-Limit-Info", usage);
    }
    response
}

async fn grant(State(org): Asked, form: Result<Form<token::Form>, FormRejection>) -> Response {
    match form {
        Ok(Form(form)) => token::grant(&org, &form),
        Err(_) => {
            let body =
                json!({"error": "invalid_request", "error_description": "must be form-encoded"});
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

async fn versions() -> Json<Value> {
    let versions: Vec<Value> = VERSIONS
        .map(|version| {
            json!({
                "label": "Release",
                "url": format!("/services/data/v{version}.0"),
                "version": format!("{version}.0"),
            })
        })
        .collect();
    Json(Value::Array(versions))
}

async fn resources(Path(version): Path<String>) -> Json<Value> {
    let base = format!("/services/data/{version}");
    Json(json!({
        "sobjects": format!("{base}/sobjects"),
        "query": format!("{base}/query"),
        "limits": format!("{base}/limits"),
        "composite": format!("{base}/composite"),
    }))
}

async fn limits(State(org): Asked) -> Json<Value> {
    let daily = org.daily();
    Json(json!({"DailyApiRequests": {"Max": daily.most, "Remaining": daily.left()}}))
}

async fn global(State(org): Asked) -> Json<Value> {
    let objects: Vec<Value> = org
        .setup
        .objects
        .iter()
        .map(|object| {
            let mut object = object.describe();
            if let Some(object) = object.as_object_mut() {
                object.remove("fields");
            }
            object
        })
        .collect();
    Json(json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects}))
}

async fn describe(
    State(org): Asked,
    Path((_, object)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(org.object(&object)?.describe()))
}

#[derive(Deserialize)]
pub(super) struct Soql {
    q: String,
}

async fn query(
    State(org): Asked,
    Path(version): Path<String>,
    Query(soql): Query<Soql>,
) -> Result<Json<Value>, Refusal> {
    let records = org.records();
    soql::answer(&soql.q, &org.setup.objects, &records, &version).map(Json)
}

/// The JSON of a request, which must say that it is JSON.
pub(super) fn json(headers: &HeaderMap, body: &Bytes) -> Result<Value, Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            format!("Content type not supported: {kind}"),
        ));
    }
    serde_json::from_slice(body)
        .map_err(|error| Refusal::bad("JSON_PARSER_ERROR", error.to_string()))
}

fn lock(partly: Option<Extension<Partly>>) -> Result<(), Refusal> {
    match partly {
        Some(Extension(partly)) if partly.fails(0) => Err(Refusal::locked()),
        _ => Ok(()),
    }
}

/// The field that an upsert or read goes by.
pub(super) fn external_id<'a>(object: &'a Object, name: &str) -> Result<&'a Field, Refusal> {
    object
        .find(name)
        .filter(|field| field.external_id)
        .ok_or_else(|| {
            Refusal::not_found(format!(
                "Provided external ID field does not exist or is not accessible: {name}"
            ))
        })
}

fn written(status: StatusCode, id: &str, created: bool) -> Response {
    let body = json!({"id": id, "success": true, "errors": [], "created": created});
    (status, Json(body)).into_response()
}

async fn create(
    State(org): Asked,
    Path((_, object)): Path<(String, String)>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = org.object(&object)?;
    let fields = records::parse(object, &json(&headers, &body)?)?;
    lock(partly)?;
    let id = org.records().create(object, fields.clone())?;
    org.wrote(object, &id, Change::Created, fields);
    let body = json!({"id": id, "success": true, "errors": []});
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

#[derive(Deserialize)]
pub(super) struct Fields {
    fields: Option<String>,
}

/// A record as it is read: all of its object's fields, or those asked for.
fn shown(
    version: &str,
    object: &Object,
    record: &records::Record,
    asked: &Fields,
) -> Result<Json<Value>, Refusal> {
    let url = format!(
        "/services/data/{version}/sobjects/{}/{}",
        object.name, record.id
    );
    let mut shown = Map::new();
    shown.insert(
        "attributes".to_owned(),
        json!({"type": object.name, "url": url}),
    );
    let names: Vec<&str> = match &asked.fields {
        Some(fields) => fields.split(',').map(str::trim).collect(),
        None => object
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect(),
    };
    for name in names {
        let Some(field) = object.find(name) else {
            let message = format!("No such column '{name}' on sobject of type {}", object.name);
            return Err(Refusal::bad("INVALID_FIELD", message));
        };
        let value = record.fields.get(&field.name).cloned();
        shown.insert(field.name.clone(), value.unwrap_or(Value::Null));
    }
    Ok(Json(Value::Object(shown)))
}

async fn read(
    State(org): Asked,
    Path((version, object, id)): Path<(String, String, String)>,
    Query(asked): Query<Fields>,
) -> Result<Json<Value>, Refusal> {
    let object = org.object(&object)?;
    let records = org.records();
    shown(&version, object, records.get(object, &id)?, &asked)
}

async fn update(
    State(org): Asked,
    Path((_, object, id)): Path<(String, String, String)>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let object = org.object(&object)?;
    let fields = records::parse(object, &json(&headers, &body)?)?;
    lock(partly)?;
    let id = org.records().update(object, &id, fields.clone())?;
    org.wrote(object, &id, Change::Updated, fields);
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(
    State(org): Asked,
    Path((_, object, id)): Path<(String, String, String)>,
    partly: Option<Extension<Partly>>,
) -> Result<StatusCode, Refusal> {
    let object = org.object(&object)?;
    lock(partly)?;
    let id = org.records().delete(object, &id)?;
    org.wrote(object, &id, Change::Deleted, Map::new());
    Ok(StatusCode::NO_CONTENT)
}

/// 300: the addresses of all that match.
fn several(version: &str, object: &Object, ids: &[String]) -> Response {
    let urls: Vec<String> = ids
        .iter()
        .map(|id| format!("/services/data/{version}/sobjects/{}/{id}", object.name))
        .collect();
    (StatusCode::MULTIPLE_CHOICES, Json(json!(urls))).into_response()
}

type By = (String, String, String, String);

/// The one record with an external id, or the answer that says that there is none or more.
fn one(
    org: &Org,
    version: &str,
    object: &Object,
    by: (&str, &str),
) -> Result<String, Box<Response>> {
    let (field, value) = by;
    let field = external_id(object, field).map_err(|refused| Box::new(refused.into_response()))?;
    let value = Value::String(value.to_owned());
    let mut found = org.records().matching(object, field, &value);
    match (found.pop(), found.is_empty()) {
        (Some(id), true) => Ok(id),
        (Some(id), false) => {
            found.push(id);
            Err(Box::new(several(version, object, &found)))
        }
        (None, _) => {
            let none = Refusal::not_found("The requested resource does not exist");
            Err(Box::new(none.into_response()))
        }
    }
}

async fn read_by(
    State(org): Asked,
    Path((version, object, field, value)): Path<By>,
    Query(asked): Query<Fields>,
) -> Result<Json<Value>, Response> {
    let object = org.object(&object).map_err(IntoResponse::into_response)?;
    let id = one(&org, &version, object, (&field, &value)).map_err(|answer| *answer)?;
    let records = org.records();
    let record = records.get(object, &id);
    record
        .and_then(|record| shown(&version, object, record, &asked))
        .map_err(IntoResponse::into_response)
}

async fn delete_by(
    State(org): Asked,
    Path((version, object, field, value)): Path<By>,
    partly: Option<Extension<Partly>>,
) -> Result<StatusCode, Response> {
    let object = org.object(&object).map_err(IntoResponse::into_response)?;
    lock(partly).map_err(IntoResponse::into_response)?;
    let id = one(&org, &version, object, (&field, &value)).map_err(|answer| *answer)?;
    let deleted = org.records().delete(object, &id);
    let id = deleted.map_err(IntoResponse::into_response)?;
    org.wrote(object, &id, Change::Deleted, Map::new());
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct How {
    #[serde(default)]
    update_only: bool,
}

async fn upsert(
    State(org): Asked,
    Path((version, object, field, value)): Path<By>,
    Query(how): Query<How>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = org.object(&object)?;
    let field = external_id(object, &field)?;
    let fields = records::parse(object, &json(&headers, &body)?)?;
    if fields.contains_key(&field.name) {
        let message = format!(
            "The {} field should not be specified in the sobject data.",
            field.name
        );
        return Err(Refusal::bad("INVALID_FIELD", message));
    }
    lock(partly)?;
    let by = (field, Value::String(value));
    let upserted = org
        .records()
        .upsert(object, by, fields.clone(), how.update_only);
    match upserted {
        Ok(upserted) => {
            let (change, status) = if upserted.created {
                (Change::Created, StatusCode::CREATED)
            } else {
                (Change::Updated, StatusCode::OK)
            };
            org.wrote(object, &upserted.id, change, fields);
            Ok(written(status, &upserted.id, upserted.created))
        }
        Err(Unwritten::Several(ids)) => Ok(several(&version, object, &ids)),
        Err(Unwritten::Refused(refusal)) => Err(refusal),
    }
}
