//! Up to 100 records in one request.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Portal;
use super::records::{Records, unique};
use super::refusal::Refusal;
use super::routes::{Asked, json};
use super::schema::ObjectType;
use crate::Change;
use crate::fault::Partly;

/// Records a request.
const MOST: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs<T> {
    inputs: Vec<T>,
}

impl<T> Inputs<T> {
    fn of(headers: &HeaderMap, body: &Bytes) -> Result<Vec<T>, Refusal>
    where
        T: serde::de::DeserializeOwned,
    {
        let Self { inputs } = json(headers, body)?;
        if inputs.is_empty() || inputs.len() > MOST {
            return Err(Refusal::invalid(format!(
                "inputs must have 1 to {MOST} items, not {}",
                inputs.len()
            )));
        }
        Ok(inputs)
    }
}

/// One record to write.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Input {
    #[serde(default)]
    id: String,
    id_property: Option<String>,
    properties: Map<String, Value>,
    object_write_trace_id: Option<String>,
}

/// What became of one input: the record's id, what was done, and the answer.
struct Done {
    id: String,
    change: Change,
    shown: Value,
}

/// `COMPLETE` with what was done; 207 when some was not.
pub(super) fn complete(results: Vec<Value>, errors: Vec<Value>) -> Response {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let mut body = json!({
        "status": "COMPLETE",
        "results": results,
        "startedAt": now,
        "completedAt": now,
    });
    if errors.is_empty() {
        return Json(body).into_response();
    }
    body["numErrors"] = json!(errors.len());
    body["errors"] = Value::Array(errors);
    (StatusCode::MULTI_STATUS, Json(body)).into_response()
}

/// Writes each input. Where every input has an `objectWriteTraceId`, what fails is told by it in a 207;
/// without them one that fails refuses the whole batch.
fn write(
    portal: &Portal,
    object: &ObjectType,
    inputs: &[Input],
    partly: Option<Extension<Partly>>,
    one: impl Fn(&mut Records, &Input, Map<String, Value>) -> Result<Done, Refusal>,
) -> Result<Response, Refusal> {
    let traced = inputs
        .iter()
        .all(|input| input.object_write_trace_id.is_some());
    let mut checked = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let meets_fault = partly.is_some_and(|Extension(partly)| partly.fails(index));
        let properties = if meets_fault {
            Err(Refusal::unavailable())
        } else {
            object.check(&input.properties).map_err(Refusal::invalid)
        };
        match properties {
            Err(refusal) if !traced => return Err(refusal),
            properties => checked.push(properties),
        }
    }
    let (mut results, mut errors, mut written) = (Vec::new(), Vec::new(), Vec::new());
    {
        let mut records = portal.records();
        for (input, properties) in inputs.iter().zip(checked) {
            let trace = &input.object_write_trace_id;
            let given = properties.clone().unwrap_or_default();
            let done = properties.and_then(|properties| one(&mut records, input, properties));
            match done {
                Ok(mut done) => {
                    if let Some(trace) = trace {
                        done.shown["objectWriteTraceId"] = json!(trace);
                    }
                    results.push(done.shown);
                    written.push((done.id, done.change, given));
                }
                Err(refusal) if traced => {
                    errors.push(refusal.part(json!({"objectWriteTraceId": [trace]})));
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }
    for (id, change, properties) in written {
        portal.wrote(object.name, &id, change, properties);
    }
    Ok(complete(results, errors))
}

/// No two inputs may be of one record.
fn distinct(inputs: &[Input]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let twice = inputs
        .iter()
        .find(|input| !seen.insert((&input.id_property, &input.id)));
    match twice {
        Some(input) => Err(Refusal::invalid(format!(
            "Duplicate IDs found in batch input: [{}]. IDs must be unique",
            input.id
        ))),
        None => Ok(()),
    }
}

pub(super) async fn upsert(
    State(portal): Asked,
    Path(object): Path<String>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let inputs: Vec<Input> = Inputs::of(&headers, &body)?;
    for input in &inputs {
        let Some(property) = &input.id_property else {
            return Err(Refusal::invalid("idProperty is required in an upsert"));
        };
        unique(&object, property)?;
        if input.id.is_empty() {
            return Err(Refusal::invalid("id must not be empty"));
        }
    }
    distinct(&inputs)?;
    write(
        &portal,
        &object,
        &inputs,
        partly,
        |records, input, mut properties| {
            let by = input.id_property.as_deref();
            let found = records
                .get(&object, by, &input.id)
                .ok()
                .map(|record| record.id.clone());
            let new = found.is_none();
            let record = match found {
                Some(id) => records.update(&object, &id, properties)?,
                None => {
                    if let Some(property) = &input.id_property {
                        properties.insert(property.clone(), json!(input.id));
                    }
                    records.create(&object, properties)?
                }
            };
            let mut shown = record.show(None);
            shown["new"] = json!(new);
            Ok(Done {
                id: record.id.clone(),
                change: if new {
                    Change::Created
                } else {
                    Change::Updated
                },
                shown,
            })
        },
    )
}

pub(super) async fn update(
    State(portal): Asked,
    Path(object): Path<String>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let inputs: Vec<Input> = Inputs::of(&headers, &body)?;
    distinct(&inputs)?;
    for input in &inputs {
        if let Some(property) = &input.id_property {
            unique(&object, property)?;
        }
    }
    write(
        &portal,
        &object,
        &inputs,
        partly,
        |records, input, properties| {
            let by = input.id_property.as_deref();
            let id = records.get(&object, by, &input.id)?.id.clone();
            let record = records.update(&object, &id, properties)?;
            Ok(Done {
                id,
                change: Change::Updated,
                shown: record.show(None),
            })
        },
    )
}

pub(super) async fn create(
    State(portal): Asked,
    Path(object): Path<String>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let inputs: Vec<Input> = Inputs::of(&headers, &body)?;
    if inputs
        .iter()
        .any(|input| !input.id.is_empty() || input.id_property.is_some())
    {
        return Err(Refusal::invalid("a create has neither id nor idProperty"));
    }
    write(
        &portal,
        &object,
        &inputs,
        partly,
        |records, _, properties| {
            let record = records.create(&object, properties)?;
            Ok(Done {
                id: record.id.clone(),
                change: Change::Created,
                shown: record.show(None),
            })
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reading {
    inputs: Vec<Id>,
    id_property: Option<String>,
    #[serde(default)]
    properties: Vec<String>,
    #[serde(default)]
    properties_with_history: Vec<String>,
}

pub(super) async fn read(
    State(portal): Asked,
    Path(object): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let reading: Reading = json(&headers, &body)?;
    if reading.inputs.is_empty() || reading.inputs.len() > MOST {
        return Err(Refusal::invalid(format!(
            "inputs must have 1 to {MOST} items"
        )));
    }
    if !reading.properties_with_history.is_empty() {
        return Err(Refusal::invalid("propertiesWithHistory is not served here"));
    }
    let by = reading.id_property.as_deref();
    if let Some(property) = by {
        unique(&object, property)?;
    }
    let records = portal.records();
    // By id once, so that a hundred of thousands are found in one pass.
    let wanted: HashSet<&str> = reading
        .inputs
        .iter()
        .map(|input| input.id.as_str())
        .collect();
    let found: HashMap<String, Value> = records
        .live(&object)
        .filter_map(|record| {
            let key = match by {
                Some(property) => record.properties.get(property)?.as_str()?,
                None => record.id.as_str(),
            };
            let shown = || (key.to_owned(), record.show(Some(&reading.properties)));
            wanted.contains(key).then(shown)
        })
        .collect();
    let (mut results, mut missing) = (Vec::new(), Vec::new());
    for input in &reading.inputs {
        match found.get(&input.id) {
            Some(shown) => results.push(shown.clone()),
            None => missing.push(input.id.clone()),
        }
    }
    let errors = if missing.is_empty() {
        Vec::new()
    } else {
        let refusal =
            Refusal::not_found("Could not get some objects, they may be deleted or not exist");
        vec![refusal.part(json!({"ids": missing}))]
    };
    Ok(complete(results, errors))
}

pub(super) async fn archive(
    State(portal): Asked,
    Path(object): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let object = portal.object(&object)?;
    for input in Inputs::<Id>::of(&headers, &body)? {
        if portal.records().archive(&object, &input.id) {
            portal.wrote(object.name, &input.id, Change::Deleted, Map::new());
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
