//! sObject Collections: up to 200 records in one request.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Org;
use super::records::{self, Records, Unwritten};
use super::refusal::Refusal;
use super::routes::{Asked, external_id, json};
use super::schema::{Field, Object};
use crate::Change;
use crate::fault::Partly;

/// Records a request.
const MOST: usize = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Batch {
    #[serde(default)]
    all_or_none: bool,
    records: Vec<Value>,
}

/// One record's write: what was done to which, with what.
struct Done {
    id: String,
    change: Change,
    fields: Map<String, Value>,
}

fn too_many(count: usize) -> Result<(), Refusal> {
    if count > MOST {
        return Err(Refusal::bad(
            "EXCEEDED_ID_LIMIT",
            "record limit reached. cannot submit more than 200 records into this call",
        ));
    }
    Ok(())
}

fn batch(headers: &HeaderMap, body: &Bytes) -> Result<Batch, Refusal> {
    let batch: Batch = serde_json::from_value(json(headers, body)?)
        .map_err(|error| Refusal::bad("JSON_PARSER_ERROR", error.to_string()))?;
    too_many(batch.records.len())?;
    Ok(batch)
}

/// The object a record says that it is of.
fn object_of<'a>(org: &'a Org, record: &Value) -> Result<&'a Object, Refusal> {
    let Some(name) = record["attributes"]["type"].as_str() else {
        return Err(Refusal::bad(
            "INVALID_INPUT",
            "The attributes map with the record's type is missing",
        ));
    };
    org.object(name).map_err(|_| {
        Refusal::bad(
            "INVALID_TYPE",
            format!("sObject type '{name}' is not supported."),
        )
    })
}

/// Writes each record and answers for each, in order; all or none if asked.
fn write(
    org: &Org,
    all_or_none: bool,
    partly: Option<Extension<Partly>>,
    rows: Vec<(&Object, Result<Value, Refusal>)>,
    mut one: impl FnMut(&mut Records, &Object, Value) -> Result<Done, Refusal>,
) -> Json<Value> {
    let mut records = org.records();
    let before = all_or_none.then(|| records.clone());
    let mut written = Vec::new();
    let mut results = Vec::new();
    let mut failed = false;
    for (index, (object, row)) in rows.into_iter().enumerate() {
        let locked = partly.is_some_and(|Extension(partly)| partly.fails(index));
        let done = match row {
            _ if locked => Err(Refusal::locked()),
            Ok(row) => one(&mut records, object, row),
            Err(refusal) => Err(refusal),
        };
        results.push(match done {
            Ok(done) => {
                let created = done.change == Change::Created;
                let result =
                    json!({"id": done.id, "success": true, "errors": [], "created": created});
                written.push((object, done));
                result
            }
            Err(refusal) => {
                failed = true;
                refusal.row()
            }
        });
    }
    if let Some(before) = before.filter(|_| failed) {
        *records = before;
        let rolled_back = Refusal::bad(
            "ALL_OR_NONE_OPERATION_ROLLED_BACK",
            "Record rolled back because not all records were valid and the request was using \
             AllOrNone header",
        )
        .row();
        for result in results
            .iter_mut()
            .filter(|result| result["success"] == true)
        {
            *result = rolled_back.clone();
        }
    } else {
        for (object, done) in written {
            org.wrote(object, &done.id, done.change, done.fields);
        }
    }
    Json(Value::Array(results))
}

pub(super) async fn upsert(
    State(org): Asked,
    Path((_, object, field)): Path<(String, String, String)>,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let object = org.object(&object)?;
    let field = external_id(object, &field)?;
    let batch = batch(&headers, &body)?;
    let mut rows = Vec::new();
    for record in &batch.records {
        if object_of(&org, record)?.name != object.name {
            let message = format!("only records of {} can be upserted here", object.name);
            return Err(Refusal::bad("INVALID_INPUT", message));
        }
        rows.push(Value::Object(records::parse(object, record)?));
    }
    let keys: Vec<Option<Value>> = rows
        .iter()
        .map(|row| row.get(&field.name).filter(|key| !key.is_null()).cloned())
        .collect();
    let rows = rows
        .into_iter()
        .enumerate()
        .map(|(index, row)| (object, keyed(field, &keys, index).map(|()| row)))
        .collect();
    Ok(write(
        &org,
        batch.all_or_none,
        partly,
        rows,
        |records, object, row| {
            let Value::Object(mut fields) = row else {
                return Err(Refusal::bad("JSON_PARSER_ERROR", "no record"));
            };
            let given = fields.clone();
            let key = fields.remove(&field.name).unwrap_or(Value::Null);
            match records.upsert(object, (field, key), fields, false) {
                Ok(upserted) => Ok(Done {
                    id: upserted.id,
                    change: if upserted.created {
                        Change::Created
                    } else {
                        Change::Updated
                    },
                    fields: given,
                }),
                Err(Unwritten::Refused(refusal)) => Err(refusal),
                Err(Unwritten::Several(ids)) => {
                    let message = format!(
                        "{}: more than one record found for external id field: [{}]",
                        field.name,
                        ids.join(", ")
                    );
                    Err(Refusal::bad("DUPLICATE_EXTERNAL_ID", message))
                }
            }
        },
    ))
}

/// Refuses a row without an external id and every row whose external id another has too.
fn keyed(field: &Field, keys: &[Option<Value>], index: usize) -> Result<(), Refusal> {
    let Some(key) = &keys[index] else {
        let message = format!("{} not specified", field.name);
        return Err(Refusal::bad("MISSING_ARGUMENT", message));
    };
    let same = keys
        .iter()
        .flatten()
        .filter(|other| field.same(key, other))
        .count();
    if same > 1 {
        let key = key.as_str().unwrap_or_default();
        let message = format!("Duplicate external id specified: {key}");
        return Err(Refusal::bad("DUPLICATE_VALUE", message).of_field(&field.name));
    }
    Ok(())
}

pub(super) async fn create(
    State(org): Asked,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let batch = batch(&headers, &body)?;
    let mut rows = Vec::new();
    for record in &batch.records {
        let object = object_of(&org, record)?;
        let fields = records::parse(object, record)?;
        rows.push((object, Ok(Value::Object(fields))));
    }
    Ok(write(
        &org,
        batch.all_or_none,
        partly,
        rows,
        |records, object, row| {
            let Value::Object(fields) = row else {
                return Err(Refusal::bad("JSON_PARSER_ERROR", "no record"));
            };
            let id = records.create(object, fields.clone())?;
            Ok(Done {
                id,
                change: Change::Created,
                fields,
            })
        },
    ))
}

pub(super) async fn update(
    State(org): Asked,
    partly: Option<Extension<Partly>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let batch = batch(&headers, &body)?;
    let mut rows = Vec::new();
    for record in &batch.records {
        let object = object_of(&org, record)?;
        let mut record = record.clone();
        let id = record.as_object_mut().and_then(|record| {
            let key = record.keys().find(|key| key.eq_ignore_ascii_case("id"))?;
            record.remove(&key.clone())
        });
        let fields = records::parse(object, &record)?;
        let row = match id {
            Some(Value::String(id)) => Ok(json!({"id": id, "fields": fields})),
            _ => Err(Refusal::bad(
                "MISSING_ARGUMENT",
                "Id not specified in an update call",
            )),
        };
        rows.push((object, row));
    }
    Ok(write(
        &org,
        batch.all_or_none,
        partly,
        rows,
        |records, object, row| {
            let fields = row["fields"].as_object().cloned().unwrap_or_default();
            let id = row["id"].as_str().unwrap_or_default();
            let id = records.update(object, id, fields.clone())?;
            Ok(Done {
                id,
                change: Change::Updated,
                fields,
            })
        },
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Which {
    ids: String,
    #[serde(default)]
    all_or_none: bool,
}

pub(super) async fn delete(
    State(org): Asked,
    Query(which): Query<Which>,
    partly: Option<Extension<Partly>>,
) -> Result<Json<Value>, Refusal> {
    let ids: Vec<&str> = which.ids.split(',').map(str::trim).collect();
    too_many(ids.len())?;
    let mut rows = Vec::new();
    for id in ids {
        let object = org
            .setup
            .objects
            .iter()
            .find(|object| id.starts_with(&object.prefix))
            .ok_or_else(|| Refusal::bad("MALFORMED_ID", format!("malformed id {id}")))?;
        rows.push((object, Ok(Value::String(id.to_owned()))));
    }
    Ok(write(
        &org,
        which.all_or_none,
        partly,
        rows,
        |records, object, row| {
            let id = records.delete(object, row.as_str().unwrap_or_default())?;
            Ok(Done {
                id,
                change: Change::Deleted,
                fields: Map::new(),
            })
        },
    ))
}
