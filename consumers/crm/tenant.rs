//! What each tenant wants in its CRM: one YAML file a tenant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use schemas::{Crm, Language};
use serde::Deserialize;

use super::mapping::{self, Mapping};

/// What is wrong with a tenant's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The folder or a file in it cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file is wrong.
    #[error("{}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

/// The tenants that have a CRM, by name.
#[derive(Clone, Debug, Default)]
pub struct Tenants(BTreeMap<String, Arc<Tenant>>);

/// What one tenant wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name: the file's, without `.yaml`.
    #[serde(skip)]
    pub name: String,
    /// Whether the CRM may hold what the customer said and who the customer is.
    #[serde(default)]
    pub personal_content: bool,
    /// The language notes are written in.
    #[serde(default = "english")]
    pub language: Language,
    /// Address of a call's page, with `{call}` in place of the call's id.
    pub link: Option<String>,
    /// No note is written of calls that began before this time, `2026-11-25T00:00:00Z`.
    pub since: Option<String>,
    /// Who the reps are in the CRMs, by their ids here.
    #[serde(default)]
    pub reps: BTreeMap<String, Rep>,
    /// HubSpot, when it is used.
    pub hubspot: Option<HubSpotSettings>,
    /// Salesforce, when it is used.
    pub salesforce: Option<SalesforceSettings>,
}

/// Who a rep is in the CRMs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rep {
    /// HubSpot's owner id.
    pub hubspot: Option<String>,
    /// Salesforce's user id.
    pub salesforce: Option<String>,
}

/// A tenant's HubSpot.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubSpotSettings {
    /// Where its API is.
    pub url: String,
    /// `v3`, or a dated version such as `2026-03`.
    pub version: String,
    /// The calls' property that holds our key; its values must be unique.
    pub key: String,
    /// Client id of an OAuth app; without one the secret is a private app's token.
    pub client_id: Option<String>,
    /// What is written into which property of a call.
    pub fields: Mapping,
    /// The property in which HubSpot's own engagement has the call's id, when the telephone system
    /// has HubSpot make one: it is then updated instead of a new one being made.
    pub existing: Option<String>,
    /// The contacts' property by which the customer's number is found, to hang the call on the
    /// contact; only with personal content.
    pub contacts: Option<String>,
}

impl Default for HubSpotSettings {
    fn default() -> Self {
        Self {
            url: "https://api.hubapi.com".to_owned(),
            version: "v3".to_owned(),
            key: "sales_coach_key".to_owned(),
            client_id: None,
            fields: mapping::hubspot_call(),
            existing: None,
            contacts: None,
        }
    }
}

/// A tenant's Salesforce.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SalesforceSettings {
    /// Where tokens are asked for.
    #[serde(default = "login")]
    pub url: String,
    /// Whom the assertion is for: the login host, or the test host for a sandbox.
    #[serde(default = "login")]
    pub audience: String,
    /// Such as `v64.0`.
    #[serde(default = "version")]
    pub version: String,
    /// The connected app's consumer key.
    pub client_id: String,
    /// The user on whose behalf notes are written.
    pub username: String,
    /// The object notes are written to.
    #[serde(default = "object")]
    pub object: String,
    /// Its field that holds our key: an external id, unique.
    #[serde(default = "key")]
    pub key: String,
    /// What is written into which of its fields.
    #[serde(default = "mapping::salesforce_object")]
    pub fields: Mapping,
    /// The call as a task, too.
    #[serde(default)]
    pub task: TaskSettings,
}

/// The task that a tenant's Salesforce has of a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSettings {
    /// The task's field that holds our key. Tasks are written when Salesforce says that there is
    /// such a field and that it is an external id; else they are left out.
    pub key: String,
    /// What is written into which of its fields.
    pub fields: Mapping,
}

impl Default for TaskSettings {
    fn default() -> Self {
        Self {
            key: "Call_Key__c".to_owned(),
            fields: mapping::salesforce_task(),
        }
    }
}

fn english() -> Language {
    Language::En
}

fn login() -> String {
    "https://login.salesforce.com".to_owned()
}

fn version() -> String {
    "v64.0".to_owned()
}

fn object() -> String {
    "Call_Coaching__c".to_owned()
}

fn key() -> String {
    "Call_Key__c".to_owned()
}

impl Tenants {
    /// Reads every `*.yaml` of a folder; none when there is no folder.
    ///
    /// # Errors
    /// Every file that is wrong.
    pub fn load(folder: Option<&Path>) -> Result<Self, Vec<TenantError>> {
        let Some(folder) = folder else {
            return Ok(Self::default());
        };
        let unreadable = |cause| TenantError::Unreadable {
            path: folder.to_owned(),
            cause,
        };
        let entries = std::fs::read_dir(folder).map_err(|cause| vec![unreadable(cause)])?;
        let (mut tenants, mut errors) = (BTreeMap::new(), Vec::new());
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(cause) => {
                    errors.push(unreadable(cause));
                    continue;
                }
            };
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            match Tenant::read(&path) {
                Ok(tenant) => drop(tenants.insert(tenant.name.clone(), Arc::new(tenant))),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            return Ok(Self(tenants));
        }
        Err(errors)
    }

    /// The tenant of that name, if it has a CRM.
    pub fn get(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.0.get(name)
    }

    /// Whether no tenant has a CRM.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every tenant, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.0.values()
    }
}

impl Tenant {
    /// Reads a tenant's file.
    ///
    /// # Errors
    /// When it cannot be read, or says what cannot be.
    pub fn read(path: &Path) -> Result<Self, TenantError> {
        let wrong = |reason: String| TenantError::Wrong {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|cause| TenantError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let name = name.ok_or_else(|| wrong("the file's name is no tenant's".to_owned()))?;
        Self::parse(name, &text).map_err(wrong)
    }

    /// The tenant `name` as its file's text says.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut tenant: Self = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        tenant.name = name.to_owned();
        let problems = tenant.problems();
        if problems.is_empty() {
            return Ok(tenant);
        }
        Err(problems.join("; "))
    }

    /// The CRMs it uses.
    pub fn crms(&self) -> impl Iterator<Item = Crm> {
        let hubspot = self.hubspot.as_ref().map(|_| Crm::Hubspot);
        let salesforce = self.salesforce.as_ref().map(|_| Crm::Salesforce);
        hubspot.into_iter().chain(salesforce)
    }

    /// Whether a call that began at `ms`, in milliseconds since 1970, gets a note.
    pub fn wants(&self, ms: i64) -> bool {
        let since = self
            .since
            .as_deref()
            .and_then(|text| humantime::parse_rfc3339(text).ok());
        let since = since.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.is_none_or(|since| u128::from(ms.max(0).unsigned_abs()) >= since.as_millis())
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(since) = &self.since
            && humantime::parse_rfc3339(since).is_err()
        {
            problems.push(format!(
                "since {since:?} is no time like 2026-11-25T00:00:00Z"
            ));
        }
        if let Some(link) = self.link.as_ref().filter(|link| !link.contains("{call}")) {
            problems.push(format!("link {link:?} has no {{call}} in it"));
        }
        let mut urls = Vec::new();
        if let Some(hubspot) = &self.hubspot {
            urls.push(&hubspot.url);
            if hubspot.contacts.is_some() && !self.personal_content {
                let text = "hubspot.contacts looks contacts up by the customer's number: it needs \
                            personal_content: true";
                problems.push(text.to_owned());
            }
            if hubspot.fields.contains(&hubspot.key) {
                problems.push(format!(
                    "hubspot.fields must not write the key {}",
                    hubspot.key
                ));
            }
        }
        if let Some(salesforce) = &self.salesforce {
            urls.extend([&salesforce.url, &salesforce.audience]);
            let keyed = [
                ("salesforce.fields", &salesforce.fields, &salesforce.key),
                (
                    "salesforce.task.fields",
                    &salesforce.task.fields,
                    &salesforce.task.key,
                ),
            ];
            for (name, fields, key) in keyed {
                if fields.contains(key) {
                    problems.push(format!("{name} must not write the key {key}"));
                }
            }
        }
        for url in urls {
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                problems.push(format!("{url:?} is no address: expected https://…"));
            }
        }
        problems
    }
}
