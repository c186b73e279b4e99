//! Objects and their fields, as `describe` shows them and writes are checked against.

use serde_json::{Value, json};

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Text of at most so many characters.
    Text(usize),
    /// Several lines of text of at most so many characters.
    LongText(usize),
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Checkbox,
    /// Date and time.
    DateTime,
    /// A day.
    Date,
    /// One of these values; a restricted one takes no other.
    Picklist {
        /// The values.
        values: Vec<String>,
        /// Whether others are refused.
        restricted: bool,
    },
    /// A record of one of these objects.
    Reference(Vec<String>),
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// A web address of at most 255 characters.
    Url,
}

/// One field.
#[derive(Clone, Debug)]
pub struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) external_id: bool,
    pub(super) unique: bool,
    pub(super) case_sensitive: bool,
    pub(super) writable: bool,
}

impl Field {
    /// An optional field that the API may write.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            required: false,
            external_id: false,
            unique: false,
            case_sensitive: false,
            writable: true,
        }
    }

    /// Text of at most `length` characters.
    pub fn text(name: &str, length: usize) -> Self {
        Self::new(name, Kind::Text(length))
    }

    /// A restricted picklist.
    pub fn picklist(name: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        Self::new(
            name,
            Kind::Picklist {
                values,
                restricted: true,
            },
        )
    }

    /// A lookup of records of one of `objects`.
    pub fn reference(name: &str, objects: &[&str]) -> Self {
        let objects = objects.iter().map(|&object| object.to_owned()).collect();
        Self::new(name, Kind::Reference(objects))
    }

    /// A create without it is refused.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// May be upserted by.
    #[must_use]
    pub fn external_id(mut self) -> Self {
        self.external_id = true;
        self
    }

    /// No two records have the same. Without this an upsert may find several (300).
    #[must_use]
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// `a` and `A` are two values; by default an external id does not tell them apart.
    #[must_use]
    pub fn case_sensitive(mut self) -> Self {
        self.case_sensitive = true;
        self
    }

    /// The API user may read it only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    /// Whether two values are the same to an upsert or a unique field.
    pub(super) fn same(&self, a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::String(a), Value::String(b)) if !self.case_sensitive => {
                a.to_lowercase() == b.to_lowercase()
            }
            _ => a == b,
        }
    }

    fn describe(&self) -> Value {
        let (kind, length, soap) = match &self.kind {
            Kind::Text(length) => ("string", *length, "xsd:string"),
            Kind::LongText(length) => ("textarea", *length, "xsd:string"),
            Kind::Number => ("double", 0, "xsd:double"),
            Kind::Integer => ("int", 0, "xsd:int"),
            Kind::Checkbox => ("boolean", 0, "xsd:boolean"),
            Kind::DateTime => ("datetime", 0, "xsd:dateTime"),
            Kind::Date => ("date", 0, "xsd:date"),
            Kind::Picklist { .. } => ("picklist", 255, "xsd:string"),
            Kind::Reference(_) => ("reference", 18, "tns:ID"),
            Kind::Email => ("email", 80, "xsd:string"),
            Kind::Phone => ("phone", 40, "xsd:string"),
            Kind::Url => ("url", 255, "xsd:string"),
        };
        let (values, restricted) = match &self.kind {
            Kind::Picklist { values, restricted } => (values.as_slice(), *restricted),
            _ => (&[][..], false),
        };
        let values: Vec<Value> = values
            .iter()
            .map(|value| json!({"active": true, "defaultValue": false, "label": value, "value": value}))
            .collect();
        let objects = match &self.kind {
            Kind::Reference(objects) => objects.as_slice(),
            _ => &[],
        };
        json!({
            "name": self.name,
            "label": self.label(),
            "type": kind,
            "soapType": soap,
            "length": length,
            "custom": self.name.ends_with("__c"),
            "createable": self.writable,
            "updateable": self.writable,
            "nillable": !self.required,
            "defaultedOnCreate": false,
            "externalId": self.external_id,
            "idLookup": self.external_id,
            "unique": self.unique,
            "caseSensitive": self.case_sensitive,
            "restrictedPicklist": restricted,
            "picklistValues": values,
            "referenceTo": objects,
        })
    }

    /// As people see it.
    pub(super) fn label(&self) -> String {
        self.name.trim_end_matches("__c").replace('_', " ")
    }
}

/// One object.
#[derive(Clone, Debug)]
pub struct Object {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) fields: Vec<Field>,
}

impl Object {
    /// An object of the administrator's own; its name ends in `__c`.
    pub fn custom(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            prefix: custom_prefix(name),
            fields: vec![
                Field::new("Id", Kind::Reference(vec![name.to_owned()])).read_only(),
                Field::text("Name", 80),
                Field::reference("OwnerId", &["User"]),
                Field::new("CreatedDate", Kind::DateTime).read_only(),
                Field::new("LastModifiedDate", Kind::DateTime).read_only(),
            ],
        }
    }

    fn standard(name: &str, prefix: &str) -> Self {
        let mut object = Self::custom(name);
        prefix.clone_into(&mut object.prefix);
        object.fields.retain(|field| field.name != "Name");
        object
    }

    /// `Task` with what a logged call has; no external id unless a field is added.
    pub fn task() -> Self {
        Self::standard("Task", "00T")
            .field(Field::text("Subject", 255))
            .field(
                Field::picklist("Status", &["Not Started", "In Progress", "Completed"]).required(),
            )
            .field(Field::picklist("Priority", &["High", "Normal", "Low"]).required())
            .field(Field::new("ActivityDate", Kind::Date))
            .field(Field::new("Description", Kind::LongText(32_000)))
            .field(Field::reference("WhoId", &["Contact", "Lead"]))
            .field(Field::reference(
                "WhatId",
                &["Account", "Opportunity", "Call_Coaching__c"],
            ))
            .field(Field::picklist("TaskSubtype", &["Task", "Email", "Call"]))
            .field(Field::picklist(
                "CallType",
                &["Internal", "Inbound", "Outbound"],
            ))
            .field(Field::new("CallDurationInSeconds", Kind::Integer))
            .field(Field::text("CallDisposition", 255))
            .field(Field::text("CallObject", 255))
    }

    /// `Contact`.
    pub fn contact() -> Self {
        Self::standard("Contact", "003")
            .field(Field::text("FirstName", 40))
            .field(Field::text("LastName", 80).required())
            .field(Field::new("Email", Kind::Email))
            .field(Field::new("Phone", Kind::Phone))
            .field(Field::new("MobilePhone", Kind::Phone))
            .field(Field::reference("AccountId", &["Account"]))
    }

    /// `Lead`.
    pub fn lead() -> Self {
        Self::standard("Lead", "00Q")
            .field(Field::text("FirstName", 40))
            .field(Field::text("LastName", 80).required())
            .field(Field::text("Company", 255).required())
            .field(Field::new("Email", Kind::Email))
            .field(Field::new("Phone", Kind::Phone))
            .field(Field::new("MobilePhone", Kind::Phone))
    }

    /// `User`, which the API user may only read.
    pub fn user() -> Self {
        Self::standard("User", "005")
            .field(Field::text("Username", 80).read_only())
            .field(Field::text("LastName", 80).read_only())
            .field(Field::new("Email", Kind::Email).read_only())
            .field(Field::text("FederationIdentifier", 512).read_only())
            .field(Field::new("IsActive", Kind::Checkbox).read_only())
    }

    /// `Account`.
    pub fn account() -> Self {
        Self::standard("Account", "001")
            .field(Field::text("Name", 255).required())
            .field(Field::new("Phone", Kind::Phone))
    }

    /// With one more field, or another of the same name.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields.retain(|old| old.name != field.name);
        self.fields.push(field);
        self
    }

    /// Field names are told apart by letters, not by their case.
    pub(super) fn find(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn describe(&self) -> Value {
        let fields: Vec<Value> = self.fields.iter().map(Field::describe).collect();
        let writable = self.name != "User";
        json!({
            "name": self.name,
            "label": self.name.trim_end_matches("__c").replace('_', " "),
            "keyPrefix": self.prefix,
            "custom": self.name.ends_with("__c"),
            "createable": writable,
            "updateable": writable,
            "deletable": writable,
            "queryable": true,
            "fields": fields,
        })
    }
}

/// What the ids of a custom object begin with: `a` and two digits.
fn custom_prefix(name: &str) -> String {
    let sum: u32 = name.bytes().map(u32::from).sum();
    format!("a{:02}", sum % 100)
}
