//! Salesforce: one org.

mod collections;
mod records;
mod refusal;
mod routes;
mod schema;
mod soql;
mod token;

pub use schema::{Field, Kind, Object};

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jsonwebtoken::DecodingKey;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::{Map, Value};

use crate::front::{Account, Front, held};
use crate::limit::Daily;
use crate::server::{Server, controls};
use crate::{Change, Fault, Policy};
use records::Records;
use refusal::Refusal;

/// How an org is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The connected app's consumer key.
    pub client_id: String,
    /// The user the app may act for.
    pub username: String,
    /// What an assertion's `aud` may be.
    pub audiences: Vec<String>,
    /// How long a token is valid.
    pub token_lifetime: Duration,
    /// The objects there are.
    pub objects: Vec<Object>,
    /// Requests a day.
    pub daily_requests: u32,
}

impl Default for Setup {
    /// The standard objects without a `Call_Coaching__c`, two hours, 100,000 requests a day.
    fn default() -> Self {
        Self {
            client_id: "3MVG9.test.consumer.key".to_owned(),
            username: "integration@acme.example".to_owned(),
            audiences: vec![
                "https://login.salesforce.com".to_owned(),
                "https://test.salesforce.com".to_owned(),
            ],
            token_lifetime: Duration::from_secs(2 * 60 * 60),
            objects: vec![
                Object::task(),
                Object::contact(),
                Object::lead(),
                Object::user(),
                Object::account(),
            ],
            daily_requests: 100_000,
        }
    }
}

impl Setup {
    /// With one more object, or another of the same name.
    #[must_use]
    pub fn object(mut self, object: Object) -> Self {
        self.objects.retain(|old| old.name != object.name);
        self.objects.push(object);
        self
    }
}

/// The org's state.
struct Org {
    setup: Setup,
    url: String,
    public_key: DecodingKey,
    tokens: Mutex<HashMap<String, Instant>>,
    records: Mutex<Records>,
    daily: Mutex<Daily>,
    front: Front,
}

impl Org {
    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        held(&self.tokens)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        held(&self.records)
    }

    fn daily(&self) -> MutexGuard<'_, Daily> {
        held(&self.daily)
    }

    fn object(&self, name: &str) -> Result<&Object, Refusal> {
        self.setup
            .objects
            .iter()
            .find(|object| object.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| Refusal::not_found("The requested resource does not exist"))
    }

    fn wrote(&self, object: &Object, id: &str, change: Change, fields: Map<String, Value>) {
        self.front.journal().wrote(&object.name, id, change, fields);
    }
}

impl Account for Org {
    fn front(&self) -> &Front {
        &self.front
    }

    fn expire_tokens(&self) {
        self.tokens().clear();
    }

    fn refuse(&self, fault: Fault) -> Response {
        let refused = |message| {
            Refusal::new(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", message).into_response()
        };
        match fault {
            Fault::Limit(Policy::Daily) => refused("TotalRequests Limit exceeded."),
            Fault::Limit(_) => refused("ConcurrentPerOrgLongTxn Limit exceeded."),
            _ => Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVER_UNAVAILABLE",
                "The server is temporarily unavailable",
            )
            .into_response(),
        }
    }
}

/// A record as a test sees it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Salesforce's id.
    pub id: String,
    /// Its fields, `Id` among them.
    pub fields: Map<String, Value>,
}

/// A running org.
pub struct Salesforce {
    server: Server,
    account: Arc<Org>,
    private_key: String,
}

controls!(Salesforce);

impl Salesforce {
    /// Starts an org with a key of its own.
    pub async fn start(setup: Setup) -> Self {
        let (private_key, public_key) = keys();
        let (listener, url) = Server::listen().await;
        let account = Arc::new(Org {
            daily: Mutex::new(Daily::new(setup.daily_requests)),
            setup,
            url: url.clone(),
            public_key,
            tokens: Mutex::default(),
            records: Mutex::default(),
            front: Front::default(),
        });
        let server = Server::serve(listener, url, routes::router(account.clone()));
        Self {
            server,
            account,
            private_key,
        }
    }

    /// The private key that the connected app's certificate belongs to, as PEM.
    pub fn private_key(&self) -> &str {
        &self.private_key
    }

    /// How it was set up.
    pub fn setup(&self) -> &Setup {
        &self.account.setup
    }

    /// A record that somebody else made; nothing of it is checked. Returns its id.
    pub fn add(&self, object: &str, fields: Value) -> String {
        let (Ok(object), Value::Object(fields)) = (self.account.object(object), fields) else {
            panic!("no such object, or no fields: {object}");
        };
        self.account.records().insert(object, fields)
    }

    /// The records of an object that are not deleted.
    pub fn records(&self, object: &str) -> Vec<Record> {
        let records = self.account.records();
        records
            .live(object)
            .map(|record| Record {
                id: record.id.clone(),
                fields: record.fields.clone(),
            })
            .collect()
    }

    /// How many live records there are of each value of a field.
    pub fn count_by(&self, object: &str, field: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for record in self.records(object) {
            if let Some(Value::String(value)) = record.fields.get(field) {
                *counts.entry(value.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// Sets the count of today's requests.
    pub fn set_daily_used(&self, used: u32) {
        self.account.daily().used = used;
    }
}

fn keys() -> (String, DecodingKey) {
    let made = || -> Result<_, Box<dyn std::error::Error>> {
        let key = PKey::from_rsa(Rsa::generate(2048)?)?;
        let private = String::from_utf8(key.private_key_to_pem_pkcs8()?)?;
        let public = DecodingKey::from_rsa_pem(&key.public_key_to_pem()?)?;
        Ok((private, public))
    };
    match made() {
        Ok(keys) => keys,
        Err(error) => panic!("no RSA key: {error}"),
    }
}
