//! One record at a time.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::routes::{Asked, json};
use crate::Change;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Which {
    id_property: Option<String>,
    properties: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given {
    properties: Map<String, Value>,
    #[serde(default)]
    associations: Vec<Value>,
}

pub(super) async fn create(
    State(portal): Asked,
    Path(object): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let given: Given = json(&headers, &body)?;
    if !given.associations.is_empty() {
        return Err(Refusal::invalid(
            "associations in a create are not served here",
        ));
    }
    let properties = object.check(&given.properties).map_err(Refusal::invalid)?;
    let (id, shown) = {
        let mut records = portal.records();
        let record = records.create(&object, properties.clone())?;
        (record.id.clone(), record.show(None))
    };
    portal.wrote(object.name, &id, Change::Created, properties);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn read(
    State(portal): Asked,
    Path((object, id)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Refusal> {
    let object = portal.object(&object)?;
    let names: Option<Vec<String>> = which
        .properties
        .map(|names| names.split(',').map(str::to_owned).collect());
    let records = portal.records();
    let record = records.get(&object, which.id_property.as_deref(), &id)?;
    Ok(Json(record.show(names.as_deref())))
}

pub(super) async fn update(
    State(portal): Asked,
    Path((object, id)): Path<(String, String)>,
    Query(which): Query<Which>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let object = portal.object(&object)?;
    let given: Given = json(&headers, &body)?;
    let properties = object.check(&given.properties).map_err(Refusal::invalid)?;
    let (id, shown) = {
        let mut records = portal.records();
        let id = records
            .get(&object, which.id_property.as_deref(), &id)?
            .id
            .clone();
        let record = records.update(&object, &id, properties.clone())?;
        (id, record.show(None))
    };
    portal.wrote(object.name, &id, Change::Updated, properties);
    Ok(Json(shown))
}

pub(super) async fn archive(
    State(portal): Asked,
    Path((object, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let object = portal.object(&object)?;
    if portal.records().archive(&object, &id) {
        portal.wrote(object.name, &id, Change::Deleted, Map::new());
    }
    Ok(StatusCode::NO_CONTENT)
}
