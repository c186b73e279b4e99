//! HubSpot: one account.

mod associations;
mod batch;
mod calling;
mod objects;
mod properties;
mod records;
mod refusal;
mod routes;
mod schema;
mod search;
mod token;

pub use schema::{Kind, Property};

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::front::{Account, Front, held};
use crate::limit::{Daily, Rolling};
use crate::server::{Server, controls};
use crate::{Change, Fault, Policy};
use records::Records;
use refusal::Refusal;
use schema::ObjectType;

/// The account's number.
const PORTAL: u32 = 62_515;

/// How an account is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The API versions served: `v3` (associations: `v4`) and dated ones such as `2026-03`.
    pub versions: Vec<String>,
    /// The token of the private app; it never expires.
    pub private_app_token: String,
    /// The public app's id.
    pub client_id: String,
    /// The public app's secret.
    pub client_secret: String,
    /// What a new access token is given for.
    pub refresh_token: String,
    /// How long an access token is valid.
    pub token_lifetime: Duration,
    /// What both apps may do.
    pub scopes: Vec<String>,
    /// Properties of calls beside HubSpot's own.
    pub call_properties: Vec<Property>,
    /// Requests within ten seconds.
    pub ten_secondly: usize,
    /// Requests a day.
    pub daily_requests: u32,
    /// Searches a second.
    pub searches_a_second: usize,
    /// How long a search does not see a change.
    pub search_lag: Duration,
}

impl Default for Setup {
    /// Both versions, all scopes, no own properties, 100 requests within ten seconds, 250,000 a day.
    fn default() -> Self {
        let scopes = [
            "crm.objects.contacts.read",
            "crm.objects.contacts.write",
            "crm.schemas.contacts.read",
            "crm.schemas.contacts.write",
            "crm.extensions_calling_transcripts.read",
            "crm.extensions_calling_transcripts.write",
        ];
        Self {
            versions: vec!["v3".to_owned(), "2026-03".to_owned()],
            private_app_token: "pat-eu1-test-private-app".to_owned(),
            client_id: "test-client".to_owned(),
            client_secret: "test-client-secret".to_owned(),
            refresh_token: "test-refresh-token".to_owned(),
            token_lifetime: Duration::from_secs(30 * 60),
            scopes: scopes.map(str::to_owned).to_vec(),
            call_properties: Vec::new(),
            ten_secondly: 100,
            daily_requests: 250_000,
            searches_a_second: 5,
            search_lag: Duration::ZERO,
        }
    }
}

/// The account's state.
struct Portal {
    setup: Setup,
    objects: Mutex<Vec<ObjectType>>,
    tokens: Mutex<HashMap<String, Instant>>,
    records: Mutex<Records>,
    rolling: Mutex<Rolling>,
    searches: Mutex<Rolling>,
    daily: Mutex<Daily>,
    front: Front,
}

impl Portal {
    fn records(&self) -> MutexGuard<'_, Records> {
        held(&self.records)
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        held(&self.tokens)
    }

    /// An object type by its name or id.
    fn object(&self, name: &str) -> Result<ObjectType, Refusal> {
        held(&self.objects)
            .iter()
            .find(|object| object.name == name || object.id == name)
            .cloned()
            .ok_or_else(|| Refusal::invalid(format!("Unable to infer object type from: {name}")))
    }

    fn wrote(&self, object: &str, id: &str, change: Change, properties: Map<String, Value>) {
        self.front.journal().wrote(object, id, change, properties);
    }
}

impl Account for Portal {
    fn front(&self) -> &Front {
        &self.front
    }

    fn expire_tokens(&self) {
        let now = Instant::now();
        self.tokens().values_mut().for_each(|until| *until = now);
    }

    fn refuse(&self, fault: Fault) -> Response {
        match fault {
            // Only some of HubSpot's refusals say when to come back.
            Fault::Limit(policy @ Policy::TenSecondlyRolling) => Refusal::limit(policy, Some(1)),
            Fault::Limit(policy) => Refusal::limit(policy, None),
            _ => Refusal::unavailable(),
        }
        .into_response()
    }
}

/// A record as a test sees it.
#[derive(Clone, Debug)]
pub struct Record {
    /// HubSpot's id.
    pub id: String,
    /// Its properties.
    pub properties: Map<String, Value>,
}

/// A running account.
pub struct HubSpot {
    server: Server,
    account: Arc<Portal>,
}

controls!(HubSpot);

impl HubSpot {
    /// Starts an account.
    pub async fn start(setup: Setup) -> Self {
        let (listener, url) = Server::listen().await;
        let mut objects = schema::standard();
        objects[0].properties.extend(setup.call_properties.clone());
        let account = Arc::new(Portal {
            objects: Mutex::new(objects),
            tokens: Mutex::default(),
            records: Mutex::default(),
            rolling: Mutex::new(Rolling::new(setup.ten_secondly, Duration::from_secs(10))),
            searches: Mutex::new(Rolling::new(
                setup.searches_a_second,
                Duration::from_secs(1),
            )),
            daily: Mutex::new(Daily::new(setup.daily_requests)),
            front: Front::default(),
            setup,
        });
        let server = Server::serve(listener, url, routes::router(account.clone()));
        Self { server, account }
    }

    /// How it was set up.
    pub fn setup(&self) -> &Setup {
        &self.account.setup
    }

    fn object(&self, name: &str) -> ObjectType {
        match self.account.object(name) {
            Ok(object) => object,
            Err(_) => panic!("no object type {name}"),
        }
    }

    /// A record that somebody else made; nothing of it is checked. Returns its id.
    pub fn add(&self, object: &str, properties: Value) -> String {
        let Value::Object(properties) = properties else {
            panic!("no properties: {properties}");
        };
        let object = self.object(object);
        self.account
            .records()
            .insert(&object, properties)
            .id
            .clone()
    }

    /// The records of an object type that are not archived.
    pub fn records(&self, object: &str) -> Vec<Record> {
        let object = self.object(object);
        let records = self.account.records();
        records
            .live(&object)
            .map(|record| Record {
                id: record.id.clone(),
                properties: record.properties.clone(),
            })
            .collect()
    }

    /// How many live records there are of each value of a property.
    pub fn count_by(&self, object: &str, property: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for record in self.records(object) {
            if let Some(Value::String(value)) = record.properties.get(property) {
                *counts.entry(value.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// The ids of one object type that a record is associated with.
    pub fn associated(&self, from: &str, id: &str, to: &str) -> Vec<String> {
        let (from, to) = (self.object(from), self.object(to));
        self.account.records().associated(&from, id, &to)
    }

    /// The transcripts there are, by their ids.
    pub fn transcripts(&self) -> BTreeMap<String, Value> {
        self.account.records().transcripts.clone()
    }

    /// Sets the count of today's requests.
    pub fn set_daily_used(&self, used: u32) {
        held(&self.account.daily).used = used;
    }
}
