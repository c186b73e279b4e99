//! What the sinks of write-back share: tenants, connections, the book, and the way out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipeline::{
    CallKey, Deps, Field, Kafka, Producer, SealError, Sealer, StageError, clock, database,
};
use schemas::Crm;

use super::Settings;
use super::book::Book;
use super::client::{self, Client, Draft, LineSettings, Trouble};
use super::connection::{Connection, ms};
use super::fact;
use super::metrics::Metrics;
use super::note::{self, Opened, Story};
use super::tenant::{Tenant, Tenants};

/// What a tenant's CRM lets us in with.
const SECRET: Field = Field("crm_secrets.sealed");
/// Digits from which on a customer is a number, not a name.
const NUMBER: usize = 6;
/// How often facts that are too old are forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);

/// What the sinks of write-back share.
pub struct Desk {
    pub(super) settings: Settings,
    pub(super) tenants: Tenants,
    pub(super) book: Book,
    pub(super) sealer: Sealer,
    pub(super) out: Producer,
    pub(super) metrics: Metrics,
    connections: Mutex<HashMap<(String, Crm), Arc<Connection>>>,
}

/// A call's note, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub draft: Draft,
    /// Hash of what is sent.
    pub content: String,
    /// How many facts it was written from.
    pub facts: i64,
}

impl Desk {
    /// Opens the tables, and checks the tenants' files.
    ///
    /// # Errors
    /// When a tenant's file is wrong or the database refuses us.
    pub async fn open(settings: Settings, kafka: &Kafka, deps: &Deps) -> anyhow::Result<Self> {
        let tenants = settings.load()?;
        Ok(Self {
            tenants,
            book: Book::open(deps.database.clone()).await?,
            sealer: deps.sealer.clone(),
            out: Producer::new(kafka, Arc::clone(&deps.codec))?,
            metrics: Metrics::register(&deps.metrics)?,
            connections: Mutex::default(),
            settings,
        })
    }

    /// The tenant of a call, as it is kept, or as it is given.
    pub(super) async fn tenant_of(
        &self,
        call: &str,
        given: Option<&str>,
    ) -> anyhow::Result<String> {
        let kept = self.book.tenant_of(call).await?;
        kept.or_else(|| given.map(str::to_owned)).ok_or_else(|| {
            anyhow::anyhow!(
                "nothing is kept of call {call}: its tenant has no CRM, or it is older than \
                 [crm] keep"
            )
        })
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// When it has no CRM.
    pub fn tenant(&self, name: &str) -> anyhow::Result<&Arc<Tenant>> {
        self.tenants.get(name).ok_or_else(|| {
            anyhow::anyhow!("tenant {name} has no CRM: there is no {name}.yaml in [crm] tenants")
        })
    }

    /// Forgets facts that are too old, now and then, for good.
    pub(super) async fn housekeeping(&self) {
        loop {
            let before = clock::now() - ms(self.settings.keep);
            if let Err(error) = self.book.forget(before).await {
                tracing::warn!(%error, "old facts of calls are not forgotten yet");
            }
            tokio::time::sleep(TIDY_EVERY).await;
        }
    }

    /// The tenants that have a CRM.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The connection to a tenant's CRM.
    ///
    /// # Errors
    /// [`Trouble::Shut`] when there is no secret for it; a [`StageError`] when it cannot be read.
    pub(super) async fn connection(
        &self,
        tenant: &Arc<Tenant>,
        crm: Crm,
    ) -> Result<Result<Arc<Connection>, Trouble>, StageError> {
        let of = (tenant.name.clone(), crm);
        if let Some(known) = self.connections().get(&of) {
            return Ok(Ok(Arc::clone(known)));
        }
        let client = match self.client(tenant, crm).await? {
            Ok(client) => client,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let connection = Arc::new(Connection::new(
            Arc::clone(tenant),
            crm,
            client,
            &self.settings,
        ));
        let mut connections = self.connections();
        Ok(Ok(Arc::clone(connections.entry(of).or_insert(connection))))
    }

    /// Forgets a connection, to let a changed secret take effect.
    pub(super) fn reconnect(&self, tenant: &str, crm: Crm) {
        self.connections().remove(&(tenant.to_owned(), crm));
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Crm), Arc<Connection>>> {
        let connections = self.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's CRM, with its secret.
    ///
    /// # Errors
    /// As [`Desk::connection`].
    pub async fn client(
        &self,
        tenant: &Tenant,
        crm: Crm,
    ) -> Result<Result<Client, Trouble>, StageError> {
        let sealed = self.book.secret(&tenant.name, crm).await;
        let missing = || Trouble::Shut {
            code: "secret".to_owned(),
            words: format!("no secret is kept: coach crm secret {} {crm}", tenant.name),
        };
        let Some(sealed) = sealed.map_err(database::stage_error)? else {
            return Ok(Err(missing()));
        };
        let key = self.sealer.key(&secret_of(&tenant.name)).await?;
        let secret = key.open_text(SECRET, &sealed)?;
        let line = LineSettings {
            timeout: self.settings.timeout,
            calls: self.metrics.calls.clone(),
        };
        Ok(Client::of(tenant, crm, &secret, line).ok_or_else(missing))
    }

    /// Seals and keeps what a tenant's CRM lets us in with.
    ///
    /// # Errors
    /// When it cannot be sealed or kept.
    pub async fn set_secret(&self, tenant: &str, crm: Crm, secret: &str) -> anyhow::Result<()> {
        let key = self.sealer.create(tenant, &secret_of(tenant)).await?;
        let sealed = key.seal(SECRET, secret.as_bytes())?;
        Ok(self.book.set_secret(tenant, crm, sealed).await?)
    }

    /// The notes of those of these calls that are over and not erased.
    pub(super) async fn prepare(
        &self,
        tenant: &Tenant,
        crm: Crm,
        calls: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, Prepared>, StageError> {
        let facts = self
            .book
            .facts(calls)
            .await
            .map_err(database::stage_error)?;
        let erased = self
            .book
            .erased(calls)
            .await
            .map_err(database::stage_error)?;
        let mut prepared = BTreeMap::new();
        for (call, facts) in facts {
            if erased.contains(&(tenant.name.clone(), call.clone())) {
                continue;
            }
            let count = i64::try_from(facts.len()).unwrap_or(i64::MAX);
            let story = Story::of(facts);
            if !story.is_complete(tenant.personal_content) || !tenant.wants(story.started_at()) {
                continue;
            }
            let draft = self.draft(tenant, crm, &call, &story).await?;
            prepared.insert(
                call,
                Prepared {
                    content: content(&draft),
                    draft,
                    facts: count,
                },
            );
        }
        Ok(prepared)
    }

    async fn draft(
        &self,
        tenant: &Tenant,
        crm: Crm,
        call: &str,
        story: &Story,
    ) -> Result<Draft, StageError> {
        let opened = self.opened(tenant, call, story).await?;
        let note = note::note(tenant, crm, call, story, &opened);
        let mut draft = client::draft(tenant, crm, call, &note);
        let looks_up = tenant
            .hubspot
            .as_ref()
            .is_some_and(|h| h.contacts.is_some());
        if crm == Crm::Hubspot && looks_up {
            let digits = |customer: &String| customer.chars().filter(char::is_ascii_digit).count();
            draft.contact = opened
                .customer
                .filter(|customer| digits(customer) >= NUMBER);
        }
        Ok(draft)
    }

    /// What was sealed of a call, where its tenant wants it in the CRM. Of a call whose key was
    /// destroyed there is nothing.
    async fn opened(
        &self,
        tenant: &Tenant,
        call: &str,
        story: &Story,
    ) -> Result<Opened, StageError> {
        if !tenant.personal_content {
            return Ok(Opened::default());
        }
        let key = match self.sealer.key(call).await {
            Ok(key) => key,
            Err(SealError::NoKey(_)) => return Ok(Opened::default()),
            Err(error) => return Err(error.into()),
        };
        let customer = story.customer.as_deref();
        let mut opened = Opened {
            customer: customer.and_then(|text| open(&key, Field::CUSTOMER, text)),
            said: BTreeMap::new(),
        };
        for (utterance, text) in &story.said {
            if let Some(text) = open(&key, Field::TEXT, text) {
                opened.said.insert(utterance.clone(), text);
            }
        }
        Ok(opened)
    }
}

/// Sealed text, opened; none when it was sealed for something else.
fn open(key: &CallKey, field: Field, text: &str) -> Option<String> {
    key.open_text(field, &fact::sealed(text)?).ok()
}

/// The name under which the key of a tenant's secrets is kept among those of calls.
fn secret_of(tenant: &str) -> String {
    format!("crm-secrets/{tenant}")
}

/// Hash of what is sent for a note.
fn content(draft: &Draft) -> String {
    use sha2::{Digest, Sha256};
    let sent = serde_json::json!([draft.fields, draft.task, draft.contact]).to_string();
    let digest = Sha256::digest(sent.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
