//! Object types and their properties.

use serde_json::{Map, Value, json};

/// What a property holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text of at most 65,536 characters.
    Text,
    /// A number.
    Number,
    /// Milliseconds since 1970 or ISO 8601.
    DateTime,
    /// `true` or `false`.
    Bool,
    /// One of these values.
    Enumeration(Vec<String>),
}

/// One property.
#[derive(Clone, Debug)]
pub struct Property {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) unique: bool,
    pub(super) read_only: bool,
    pub(super) required: bool,
    pub(super) built_in: bool,
    pub(super) group: String,
}

impl Property {
    /// A property of the account's own.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            unique: false,
            read_only: false,
            required: false,
            built_in: false,
            group: "call".to_owned(),
        }
    }

    /// No two records have the same, and records may be upserted by it (`hasUniqueValue`).
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    fn built_in(name: &str, kind: Kind) -> Self {
        let mut property = Self::new(name, kind);
        property.built_in = true;
        property
    }

    fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) fn show(&self) -> Value {
        let (kind, field) = match &self.kind {
            Kind::Text => ("string", "text"),
            Kind::Number => ("number", "number"),
            Kind::DateTime => ("datetime", "date"),
            Kind::Bool => ("bool", "booleancheckbox"),
            Kind::Enumeration(_) => ("enumeration", "select"),
        };
        let options: Vec<Value> = match &self.kind {
            Kind::Enumeration(values) => values
                .iter()
                .enumerate()
                .map(|(order, value)| {
                    json!({"label": value, "value": value, "displayOrder": order, "hidden": false})
                })
                .collect(),
            _ => Vec::new(),
        };
        json!({
            "name": self.name,
            "label": self.name,
            "type": kind,
            "fieldType": field,
            "groupName": self.group,
            "description": "",
            "options": options,
            "hasUniqueValue": self.unique,
            "hidden": false,
            "archived": false,
            "hubspotDefined": self.built_in,
            "calculated": false,
            "externalOptions": false,
            "formField": false,
            "modificationMetadata": {
                "archivable": !self.built_in,
                "readOnlyDefinition": self.built_in,
                "readOnlyValue": self.read_only,
            },
        })
    }

    /// Why this property does not take a value, in HubSpot's words and code.
    fn refuses(&self, value: &str) -> Option<(String, &'static str)> {
        if self.read_only {
            return Some((
                format!(
                    "\"{}\" is a read only property; its value cannot be set.",
                    self.name
                ),
                "READ_ONLY_VALUE",
            ));
        }
        // Clears the property.
        if value.is_empty() {
            return None;
        }
        match &self.kind {
            Kind::Text if value.chars().count() > 65_536 => Some((
                format!(
                    "Property \"{}\" is too long; at most 65536 characters.",
                    self.name
                ),
                "PROPERTY_VALUE_TOO_LONG",
            )),
            Kind::Number if value.parse::<f64>().is_err() => Some((
                format!("{value} was not a valid number."),
                "INVALID_INTEGER",
            )),
            Kind::DateTime
                if value.parse::<i64>().is_err() && humantime::parse_rfc3339(value).is_err() =>
            {
                Some((format!("{value} was not a valid long."), "INVALID_LONG"))
            }
            Kind::Bool if !matches!(value, "true" | "false") => Some((
                format!("{value} was not a valid boolean."),
                "INVALID_BOOLEAN",
            )),
            Kind::Enumeration(values) if !values.iter().any(|known| known == value) => Some((
                format!("{value} was not one of the allowed options: {values:?}"),
                "INVALID_OPTION",
            )),
            _ => None,
        }
    }
}

/// One object type.
#[derive(Clone, Debug)]
pub(super) struct ObjectType {
    pub(super) name: &'static str,
    /// Such as `0-48`.
    pub(super) id: &'static str,
    pub(super) properties: Vec<Property>,
}

impl ObjectType {
    pub(super) fn find(&self, name: &str) -> Option<&Property> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }

    /// The properties as text, or every complaint as HubSpot writes it.
    pub(super) fn check(&self, given: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut properties = Map::new();
        let mut complaints = Vec::new();
        for (name, value) in given {
            let mut complain = |message: String, error: &str| {
                complaints.push(json!({
                    "isValid": false,
                    "message": message,
                    "error": error,
                    "name": name,
                    "localizedErrorMessage": message,
                    "portalId": super::PORTAL,
                }));
            };
            let Some(property) = self.find(name) else {
                complain(
                    format!("Property \"{name}\" does not exist"),
                    "PROPERTY_DOESNT_EXIST",
                );
                continue;
            };
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => {
                    complain(format!("Property \"{name}\" must be text"), "INVALID_VALUE");
                    continue;
                }
            };
            if let Some((message, error)) = property.refuses(&text) {
                complain(message, error);
            }
            properties.insert(name.clone(), Value::String(text));
        }
        if complaints.is_empty() {
            return Ok(properties);
        }
        Err(format!(
            "Property values were not valid: {}",
            Value::Array(complaints)
        ))
    }

    /// The required properties that a new record would lack.
    pub(super) fn missing(&self, properties: &Map<String, Value>) -> Vec<&str> {
        let empty = |name: &str| {
            let value = properties.get(name).and_then(Value::as_str);
            value.unwrap_or_default().is_empty()
        };
        self.properties
            .iter()
            .filter(|property| property.required && empty(&property.name))
            .map(|property| property.name.as_str())
            .collect()
    }
}

fn options(values: &[&str]) -> Kind {
    Kind::Enumeration(values.iter().map(|&value| value.to_owned()).collect())
}

fn object(name: &'static str, id: &'static str, properties: Vec<Property>) -> ObjectType {
    let mut all = vec![
        Property::built_in("hs_object_id", Kind::Number).read_only(),
        Property::built_in("hs_createdate", Kind::DateTime).read_only(),
        Property::built_in("hs_lastmodifieddate", Kind::DateTime).read_only(),
        Property::built_in("hubspot_owner_id", Kind::Text),
    ];
    all.extend(properties);
    ObjectType {
        name,
        id,
        properties: all,
    }
}

/// The object types there are, with HubSpot's own properties of calls.
pub(super) fn standard() -> Vec<ObjectType> {
    let text = |name| Property::built_in(name, Kind::Text);
    vec![
        object(
            "calls",
            "0-48",
            vec![
                Property::built_in("hs_timestamp", Kind::DateTime).required(),
                text("hs_call_title"),
                text("hs_call_body"),
                Property::built_in("hs_call_duration", Kind::Number),
                Property::built_in(
                    "hs_call_disposition",
                    options(&[
                        "f240bbac-87c9-4f6e-bf70-924b57d47db7",
                        "73a0d17f-1163-4015-bdd5-ec830791da20",
                        "9d9162e7-6cf3-4944-bf63-4dff82258764",
                        "a4c4c377-d246-4b32-a13b-75a56a4cd0ff",
                        "b2cf5968-551e-4856-9783-52b3da59a7d0",
                        "17b47fee-58de-441e-a44c-c6300d46f273",
                    ]),
                ),
                Property::built_in(
                    "hs_call_status",
                    options(&[
                        "BUSY",
                        "CALLING_CRM_USER",
                        "CANCELED",
                        "COMPLETED",
                        "CONNECTING",
                        "FAILED",
                        "IN_PROGRESS",
                        "NO_ANSWER",
                        "QUEUED",
                        "RINGING",
                    ]),
                ),
                Property::built_in("hs_call_direction", options(&["INBOUND", "OUTBOUND"])),
                text("hs_call_from_number"),
                text("hs_call_to_number"),
                text("hs_call_recording_url"),
                text("hs_call_external_id"),
                text("hs_call_external_account_id"),
                text("hs_call_app_id"),
                text("hs_call_source"),
                text("hs_call_callee_object_id"),
                text("hs_activity_type"),
                text("hs_attachment_ids"),
            ],
        ),
        object(
            "contacts",
            "0-1",
            vec![
                text("email").unique(),
                text("firstname"),
                text("lastname"),
                text("phone"),
                text("mobilephone"),
                text("company"),
            ],
        ),
        object(
            "companies",
            "0-2",
            vec![text("name"), text("domain"), text("phone")],
        ),
        object(
            "deals",
            "0-3",
            vec![text("dealname"), text("dealstage"), text("pipeline")],
        ),
    ]
}
