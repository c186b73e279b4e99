//! Associations, version 4: the default one between two records.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::batch::complete;
use super::refusal::Refusal;
use super::routes::{Asked, json};
use crate::Change;

/// Pairs a request.
const MOST: usize = 2_000;

pub(super) async fn associate(
    State(portal): Asked,
    Path((from, id, to, to_id)): Path<(String, String, String, String)>,
) -> Result<Response, Refusal> {
    let (from, to) = (portal.object(&from)?, portal.object(&to)?);
    let made = portal.records().associate((&from, &id), (&to, &to_id))?;
    wrote(&portal, &from, &id, &to, &to_id);
    Ok(complete(vec![made], Vec::new()))
}

fn wrote(
    portal: &super::Portal,
    from: &super::ObjectType,
    id: &str,
    to: &super::ObjectType,
    to_id: &str,
) {
    let with = json!({to.name: to_id})
        .as_object()
        .cloned()
        .unwrap_or_default();
    portal.wrote(from.name, id, Change::Associated, with);
}

pub(super) async fn list(
    State(portal): Asked,
    Path((from, id, to)): Path<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    let (from, to) = (portal.object(&from)?, portal.object(&to)?);
    let records = portal.records();
    records.get(&from, None, &id)?;
    let found: Vec<Value> = records
        .associated(&from, &id, &to)
        .into_iter()
        .map(|id| json!({"toObjectId": id.parse::<u64>().unwrap_or_default(), "associationTypes": []}))
        .collect();
    Ok(Json(json!({"results": found})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pairs {
    inputs: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    from: Id,
    to: Id,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

pub(super) async fn associate_batch(
    State(portal): Asked,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let (from, to) = (portal.object(&from)?, portal.object(&to)?);
    let Pairs { inputs } = json(&headers, &body)?;
    if inputs.is_empty() || inputs.len() > MOST {
        return Err(Refusal::invalid(format!(
            "inputs must have 1 to {MOST} items"
        )));
    }
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for Pair { from: a, to: b } in inputs {
        let made = portal.records().associate((&from, &a.id), (&to, &b.id));
        match made {
            Ok(made) => {
                wrote(&portal, &from, &a.id, &to, &b.id);
                results.push(made);
            }
            Err(refusal) => {
                errors.push(refusal.part(json!({"fromObjectId": [a.id], "toObjectId": [b.id]})));
            }
        }
    }
    Ok(complete(results, errors))
}
