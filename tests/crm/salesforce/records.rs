//! The records of an org, and what may be written to them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::schema::{Field, Kind, Object};

type Fields = Map<String, Value>;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) fields: Fields,
    pub(super) deleted: bool,
}

/// What an upsert did.
pub(super) struct Upserted {
    pub(super) id: String,
    pub(super) created: bool,
}

/// Why an upsert did nothing.
pub(super) enum Unwritten {
    /// As any write.
    Refused(Refusal),
    /// These records all have the external id.
    Several(Vec<String>),
}

impl From<Refusal> for Unwritten {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// All records.
#[derive(Clone, Default)]
pub(super) struct Records {
    objects: BTreeMap<String, Vec<Record>>,
    made: u64,
}

impl Records {
    pub(super) fn live(&self, object: &str) -> impl Iterator<Item = &Record> {
        self.objects
            .get(object)
            .into_iter()
            .flatten()
            .filter(|record| !record.deleted)
    }

    fn any(&self, id: &str) -> Option<&Record> {
        self.objects
            .values()
            .flatten()
            .find(|record| record.id == id)
    }

    /// The live record with this id. Ids of 15 characters name the same as those of 18.
    pub(super) fn get(&self, object: &Object, id: &str) -> Result<&Record, Refusal> {
        let missing = || {
            Refusal::not_found("Provided external ID field does not exist or is not accessible: Id")
        };
        if !is_id(id) {
            return Err(missing());
        }
        let found = self.objects.get(&object.name).and_then(|records| {
            records
                .iter()
                .find(|record| record.id == id || record.id[..15] == *id)
        });
        match found {
            Some(record) if record.deleted => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "ENTITY_IS_DELETED",
                "entity is deleted",
            )),
            Some(record) => Ok(record),
            None => Err(Refusal::not_found("The requested resource does not exist")),
        }
    }

    /// The live records whose external id is `value`.
    pub(super) fn matching(&self, object: &Object, field: &Field, value: &Value) -> Vec<String> {
        self.live(&object.name)
            .filter(|record| {
                let own = record.fields.get(&field.name);
                own.is_some_and(|own| field.same(own, value))
            })
            .map(|record| record.id.clone())
            .collect()
    }

    pub(super) fn create(&mut self, object: &Object, fields: Fields) -> Result<String, Refusal> {
        let missing: Vec<&str> = object
            .fields
            .iter()
            .filter(|field| field.required && fields.get(&field.name).is_none_or(Value::is_null))
            .map(|field| field.name.as_str())
            .collect();
        if !missing.is_empty() {
            let message = format!("Required fields are missing: [{}]", missing.join(", "));
            return Err(Refusal::bad("REQUIRED_FIELD_MISSING", message).of_field(missing[0]));
        }
        self.check(object, &fields, None)?;
        Ok(self.insert(object, fields))
    }

    /// A new record without any check.
    pub(super) fn insert(&mut self, object: &Object, mut fields: Fields) -> String {
        self.made += 1;
        let id = format!("{}5g00{:08}AA0", object.prefix, self.made);
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        fields.insert("CreatedDate".to_owned(), Value::String(now.clone()));
        fields.insert("LastModifiedDate".to_owned(), Value::String(now));
        fields.insert("Id".to_owned(), Value::String(id.clone()));
        self.objects
            .entry(object.name.clone())
            .or_default()
            .push(Record {
                id: id.clone(),
                fields,
                deleted: false,
            });
        id
    }

    pub(super) fn update(
        &mut self,
        object: &Object,
        id: &str,
        fields: Fields,
    ) -> Result<String, Refusal> {
        let id = self.get(object, id)?.id.clone();
        for field in object.fields.iter().filter(|field| field.required) {
            if fields.get(&field.name).is_some_and(Value::is_null) {
                let message = format!("Required fields are missing: [{}]", field.name);
                return Err(Refusal::bad("REQUIRED_FIELD_MISSING", message).of_field(&field.name));
            }
        }
        self.check(object, &fields, Some(&id))?;
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let record = self
            .objects
            .get_mut(&object.name)
            .and_then(|records| records.iter_mut().find(|record| record.id == id));
        if let Some(record) = record {
            record.fields.extend(fields);
            record
                .fields
                .insert("LastModifiedDate".to_owned(), Value::String(now));
        }
        Ok(id)
    }

    pub(super) fn upsert(
        &mut self,
        object: &Object,
        by: (&Field, Value),
        mut fields: Fields,
        update_only: bool,
    ) -> Result<Upserted, Unwritten> {
        let (field, value) = by;
        let found = self.matching(object, field, &value);
        match found.as_slice() {
            [] if update_only => {
                Err(Refusal::not_found("The requested resource does not exist").into())
            }
            [] => {
                fields.insert(field.name.clone(), value);
                let id = self.create(object, fields)?;
                Ok(Upserted { id, created: true })
            }
            [id] => {
                let id = self.update(object, id, fields)?;
                Ok(Upserted { id, created: false })
            }
            _ => Err(Unwritten::Several(found)),
        }
    }

    pub(super) fn delete(&mut self, object: &Object, id: &str) -> Result<String, Refusal> {
        let id = self.get(object, id)?.id.clone();
        let records = self.objects.get_mut(&object.name).into_iter().flatten();
        for record in records.filter(|record| record.id == id) {
            record.deleted = true;
        }
        Ok(id)
    }

    /// What of one record is refused: lengths, values, references, uniqueness.
    fn check(&self, object: &Object, fields: &Fields, own: Option<&str>) -> Result<(), Refusal> {
        for (name, value) in fields {
            let Some(field) = object.find(name) else {
                continue;
            };
            if !field.writable {
                let message = format!(
                    "Unable to create/update fields: {name}. Please check the security settings of this \
                     field and verify that it is read/write for your profile or permission set."
                );
                let refusal = Refusal::bad("INVALID_FIELD_FOR_INSERT_UPDATE", message);
                return Err(refusal.of_field(name));
            }
            self.check_value(field, value)?;
            if field.unique && !value.is_null() {
                let others = self.matching(object, field, value);
                if let Some(other) = others.iter().find(|id| Some(id.as_str()) != own) {
                    let message = format!(
                        "duplicate value found: {name} duplicates value on record with id: {other}"
                    );
                    return Err(Refusal::bad("DUPLICATE_VALUE", message));
                }
            }
        }
        Ok(())
    }

    fn check_value(&self, field: &Field, value: &Value) -> Result<(), Refusal> {
        let Some(text) = value.as_str() else {
            return Ok(());
        };
        let label = field.label();
        let too_long = |most: usize| {
            let start: String = text.chars().take(most.min(255)).collect();
            let message = format!("{label}: data value too large: {start} (max length={most})");
            Refusal::bad("STRING_TOO_LONG", message).of_field(&field.name)
        };
        let length = text.chars().count();
        match &field.kind {
            Kind::Text(most) | Kind::LongText(most) if length > *most => Err(too_long(*most)),
            Kind::Url if length > 255 => Err(too_long(255)),
            Kind::Phone if length > 40 => Err(too_long(40)),
            Kind::Email if !text.contains('@') => Err(Refusal::bad(
                "INVALID_EMAIL_ADDRESS",
                format!("{label}: invalid email address: {text}"),
            )
            .of_field(&field.name)),
            Kind::Picklist {
                values,
                restricted: true,
            } if !values.iter().any(|known| known == text) => Err(Refusal::bad(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                format!("{label}: bad value for restricted picklist field: {text}"),
            )
            .of_field(&field.name)),
            Kind::Reference(objects) => self.check_reference(field, objects, text),
            _ => Ok(()),
        }
    }

    fn check_reference(&self, field: &Field, objects: &[String], id: &str) -> Result<(), Refusal> {
        let malformed = || {
            let message = format!("{}: id value of incorrect type: {id}", field.label());
            Refusal::bad("MALFORMED_ID", message).of_field(&field.name)
        };
        if !is_id(id) {
            return Err(malformed());
        }
        let Some(record) = self.any(id).filter(|record| !record.deleted) else {
            return Err(Refusal::bad(
                "INVALID_CROSS_REFERENCE_KEY",
                "invalid cross reference id",
            ));
        };
        let fits = objects
            .iter()
            .any(|object| self.live(object).any(|candidate| candidate.id == record.id));
        if fits { Ok(()) } else { Err(malformed()) }
    }
}

fn is_id(id: &str) -> bool {
    matches!(id.len(), 15 | 18) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The fields of a request's record under their own names, without `attributes`.
///
/// An unknown field and a value of the wrong type are refused with the whole request, as the real parser does.
pub(super) fn parse(object: &Object, given: &Value) -> Result<Fields, Refusal> {
    let Some(given) = given.as_object() else {
        return Err(Refusal::bad(
            "JSON_PARSER_ERROR",
            "Unexpected value where a record was expected",
        ));
    };
    let mut fields = Fields::new();
    for (name, value) in given {
        if name == "attributes" {
            continue;
        }
        let Some(field) = object.find(name) else {
            let message = format!("No such column '{name}' on sobject of type {}", object.name);
            return Err(Refusal::bad("INVALID_FIELD", message));
        };
        fields.insert(field.name.clone(), typed(field, value)?);
    }
    Ok(fields)
}

fn typed(field: &Field, value: &Value) -> Result<Value, Refusal> {
    let wrong = |wanted: &str| {
        let message = format!(
            "Cannot deserialize instance of {wanted} from {value} for field {}",
            field.name
        );
        Err(Refusal::bad("JSON_PARSER_ERROR", message))
    };
    if value.is_null() {
        return Ok(Value::Null);
    }
    match &field.kind {
        Kind::Number if !value.is_number() => wrong("double"),
        Kind::Integer if value.as_i64().is_none() => wrong("int"),
        Kind::Checkbox if !value.is_boolean() => wrong("boolean"),
        Kind::DateTime => match value.as_str().and_then(datetime) {
            Some(time) => Ok(Value::String(time)),
            None => wrong("datetime"),
        },
        Kind::Date => match value.as_str() {
            Some(text) if datetime(&format!("{text}T00:00:00Z")).is_some() => Ok(value.clone()),
            _ => wrong("date"),
        },
        Kind::Number | Kind::Integer | Kind::Checkbox => Ok(value.clone()),
        _ => match value {
            // An emptied text is no value; numbers and booleans are taken as their text.
            Value::String(text) if text.is_empty() => Ok(Value::Null),
            Value::String(_) => Ok(value.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(Value::String(value.to_string())),
            _ => wrong("string"),
        },
    }
}

/// The time in Salesforce's way of writing it, if it is one.
fn datetime(text: &str) -> Option<String> {
    let utc = text
        .strip_suffix("+00:00")
        .or_else(|| text.strip_suffix("+0000"))
        .map(|start| format!("{start}Z"));
    let time = humantime::parse_rfc3339(utc.as_deref().unwrap_or(text)).ok()?;
    let time = humantime::format_rfc3339_millis(time).to_string();
    Some(time.replace('Z', "+0000"))
}
