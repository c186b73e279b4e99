//! The records of an account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::schema::ObjectType;

/// HubSpot's own call to contact, company and deal.
const ASSOCIATIONS: &[(&str, &str, u32)] = &[
    ("calls", "contacts", 194),
    ("contacts", "calls", 193),
    ("calls", "companies", 182),
    ("companies", "calls", 181),
    ("calls", "deals", 206),
    ("deals", "calls", 205),
];

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) properties: Map<String, Value>,
    pub(super) archived: bool,
    pub(super) created: SystemTime,
    pub(super) updated: SystemTime,
    changed: Instant,
}

impl Record {
    /// As it is answered, with the named properties, or all.
    pub(super) fn show(&self, named: Option<&[String]>) -> Value {
        let time = |time| humantime::format_rfc3339_millis(time).to_string();
        let mut properties = Map::new();
        match named {
            None => properties.clone_from(&self.properties),
            Some(names) => {
                for name in names {
                    let value = self.properties.get(name).cloned().unwrap_or(Value::Null);
                    properties.insert(name.clone(), value);
                }
            }
        }
        properties.insert("hs_object_id".to_owned(), json!(self.id));
        json!({
            "id": self.id,
            "properties": properties,
            "createdAt": time(self.created),
            "updatedAt": time(self.updated),
            "archived": self.archived,
        })
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.properties.get(name).and_then(Value::as_str) == Some(value)
    }
}

/// All records, their associations and transcripts.
#[derive(Default)]
pub(super) struct Records {
    objects: BTreeMap<&'static str, Vec<Record>>,
    associations: BTreeSet<(&'static str, String, &'static str, String)>,
    pub(super) transcripts: BTreeMap<String, Value>,
    made: u64,
}

impl Records {
    /// An id that nothing has yet.
    pub(super) fn next_id(&mut self) -> String {
        self.made += 1;
        (70_000_000_000 + self.made * 7).to_string()
    }

    pub(super) fn live(&self, object: &ObjectType) -> impl Iterator<Item = &Record> {
        self.objects
            .get(object.name)
            .into_iter()
            .flatten()
            .filter(|record| !record.archived)
    }

    /// The live record with this id, or with this value of a unique property.
    pub(super) fn get(
        &self,
        object: &ObjectType,
        by: Option<&str>,
        id: &str,
    ) -> Result<&Record, Refusal> {
        if let Some(property) = by {
            unique(object, property)?;
        }
        self.live(object)
            .find(|record| match by {
                Some(property) => record.has(property, id),
                None => record.id == id,
            })
            .ok_or_else(|| {
                Refusal::not_found(format!(
                    "Object not found.  objectId are usually numeric. {id}"
                ))
            })
    }

    fn conflict(
        &self,
        object: &ObjectType,
        properties: &Map<String, Value>,
        own: Option<&str>,
    ) -> Result<(), Refusal> {
        for property in object.properties.iter().filter(|property| property.unique) {
            let Some(value) = properties.get(&property.name).and_then(Value::as_str) else {
                continue;
            };
            let other = self.live(object).find(|record| {
                record.has(&property.name, value) && Some(record.id.as_str()) != own
            });
            if let Some(other) = other.filter(|_| !value.is_empty()) {
                return Err(Refusal::invalid(format!(
                    "Cannot set property {} to {value}: {} already has that value.",
                    property.name, other.id
                )));
            }
        }
        Ok(())
    }

    /// A new record, its properties checked.
    pub(super) fn create(
        &mut self,
        object: &ObjectType,
        properties: Map<String, Value>,
    ) -> Result<&Record, Refusal> {
        let missing = object.missing(&properties);
        if !missing.is_empty() {
            return Err(Refusal::invalid(format!(
                "Error creating {}. Some required properties were not set: {missing:?}",
                object.name.to_uppercase()
            )));
        }
        self.conflict(object, &properties, None)?;
        Ok(self.insert(object, properties))
    }

    /// A new record without any check.
    pub(super) fn insert(
        &mut self,
        object: &ObjectType,
        properties: Map<String, Value>,
    ) -> &Record {
        let id = self.next_id();
        let now = SystemTime::now();
        let records = self.objects.entry(object.name).or_default();
        records.push(Record {
            id,
            properties,
            archived: false,
            created: now,
            updated: now,
            changed: Instant::now(),
        });
        let last = records.len() - 1;
        &records[last]
    }

    /// Changes a record that was found, its properties checked.
    pub(super) fn update(
        &mut self,
        object: &ObjectType,
        id: &str,
        properties: Map<String, Value>,
    ) -> Result<&Record, Refusal> {
        self.conflict(object, &properties, Some(id))?;
        let missing = || Refusal::not_found(format!("Object not found. {id}"));
        let records = self.objects.get_mut(object.name).ok_or_else(missing)?;
        let record = records
            .iter_mut()
            .find(|record| record.id == id && !record.archived)
            .ok_or_else(missing)?;
        record.properties.extend(properties);
        record.updated = SystemTime::now();
        record.changed = Instant::now();
        Ok(record)
    }

    /// Archives a record; one that is not there is archived too.
    pub(super) fn archive(&mut self, object: &ObjectType, id: &str) -> bool {
        let records = self.objects.get_mut(object.name).into_iter().flatten();
        let mut found = false;
        for record in records.filter(|record| record.id == id && !record.archived) {
            record.archived = true;
            found = true;
        }
        self.associations
            .retain(|(_, from, _, to)| from != id && to != id);
        found
    }

    /// What a search sees: records whose last change is at least so long ago.
    pub(super) fn indexed(
        &self,
        object: &ObjectType,
        lag: Duration,
    ) -> impl Iterator<Item = &Record> {
        self.live(object)
            .filter(move |record| record.changed.elapsed() >= lag)
    }

    /// Associates two records, both ways; once is as often as twice.
    pub(super) fn associate(
        &mut self,
        from: (&ObjectType, &str),
        to: (&ObjectType, &str),
    ) -> Result<Value, Refusal> {
        let kind = |a: &str, b: &str| {
            let known = ASSOCIATIONS.iter().find(|(x, y, _)| *x == a && *y == b);
            known.map(|(_, _, id)| *id)
        };
        let Some(id) = kind(from.0.name, to.0.name) else {
            return Err(Refusal::invalid(format!(
                "No default association from {} to {}",
                from.0.name, to.0.name
            )));
        };
        self.get(from.0, None, from.1)?;
        self.get(to.0, None, to.1)?;
        let (from_id, to_id) = (from.1.to_owned(), to.1.to_owned());
        self.associations
            .insert((from.0.name, from_id.clone(), to.0.name, to_id.clone()));
        self.associations
            .insert((to.0.name, to_id, from.0.name, from_id));
        Ok(json!({
            "from": {"id": from.1},
            "to": {"id": to.1},
            "associationSpec": {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": id},
        }))
    }

    /// The ids associated with a record.
    pub(super) fn associated(&self, from: &ObjectType, id: &str, to: &ObjectType) -> Vec<String> {
        self.associations
            .iter()
            .filter(|(a, from_id, b, _)| *a == from.name && from_id == id && *b == to.name)
            .map(|(_, _, _, to_id)| to_id.clone())
            .collect()
    }
}

/// Refuses a property that records cannot be found by.
pub(super) fn unique(object: &ObjectType, property: &str) -> Result<(), Refusal> {
    if object
        .find(property)
        .is_some_and(|property| property.unique)
    {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "Unable to perform update/upsert by non-unique {} property {property} in portal ID {}",
        object.id,
        super::PORTAL
    )))
}
