//! A Confluent schema registry: ids for the compiled-in schemas, and schemas for ids that other
//! writers use. <https://docs.confluent.io/platform/current/schema-registry/develop/api.html>

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use reqwest::{Client, RequestBuilder, StatusCode};
use schemas::{Codec, CodecError, Topic, topics};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{Secret, Section};
use crate::{Poison, SchemaSource, StageError};

/// The API's own media type.
const MEDIA: &str = "application/vnd.schemaregistry.v1+json";

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waiting for an unreachable registry begins here and doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Section `registry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// Where the registry is, like `http://registry:8081`; none: the ids compiled in are used.
    pub url: Option<String>,
    /// Whether schemas that the registry does not know are registered; else they are an error.
    pub register: bool,
    /// User name, where the registry asks for one.
    pub user: Option<String>,
    /// Password of that user.
    pub password: Option<Secret>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: None,
            register: true,
            user: None,
            password: None,
        }
    }
}

impl Section for RegistrySettings {
    const NAME: &'static str = "registry";
}

/// Why the registry is of no help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It does not answer, or not now.
    #[error("schema registry {url}: {cause}")]
    Unreachable {
        /// Its URL.
        url: String,
        /// What happened.
        cause: String,
    },
    /// It does not know this id.
    #[error("schema registry {url} knows no schema with id {id}")]
    UnknownId {
        /// Its URL.
        url: String,
        /// The id.
        id: u32,
    },
    /// It does not know a compiled-in schema, and we are told not to register it.
    #[error(
        "schema registry {url} does not have our schema under {subject}: register it, \
         or set [registry] register = true"
    )]
    NotRegistered {
        /// Its URL.
        url: String,
        /// The subject.
        subject: String,
    },
    /// It answers with an error that waiting does not cure.
    #[error("schema registry {url} refuses {what}: {status} {reason}")]
    Refused {
        /// Its URL.
        url: String,
        /// What it was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// Its reason.
        reason: String,
    },
    /// A schema does not parse.
    #[error("schema registry {url}: {cause}")]
    Schema {
        /// Its URL.
        url: String,
        /// Why.
        cause: CodecError,
    },
}

impl RegistryError {
    /// Whether a later try may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A schema registry. Cheap to clone.
#[derive(Clone)]
pub struct SchemaRegistry {
    client: Client,
    url: String,
    settings: RegistrySettings,
}

/// What a registry says on an error.
#[derive(Deserialize)]
struct Problem {
    error_code: i64,
    message: String,
}

impl SchemaSource for SchemaRegistry {
    fn schema(&self, id: u32) -> BoxFuture<'_, Result<String, StageError>> {
        async move {
            let asked = SchemaRegistry::schema(self, id).await;
            asked.map_err(|error| match error.is_transient() {
                true => StageError::transient(error),
                false => Poison::new("schema", error).into(),
            })
        }
        .boxed()
    }
}

impl SchemaRegistry {
    /// The configured registry, if there is one. Connects to nothing yet.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn open(settings: &RegistrySettings) -> Result<Option<Self>, RegistryError> {
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        let url = url.trim_end_matches('/').to_owned();
        match Client::builder().timeout(PATIENCE).build() {
            Ok(client) => Ok(Some(Self {
                client,
                url,
                settings: settings.clone(),
            })),
            Err(error) => Err(RegistryError::Unreachable {
                url,
                cause: error.to_string(),
            }),
        }
    }

    /// Has `codec` write the registry's ids from now on, for every topic under subject
    /// `<prefix><topic>-value`. Waits with backoff while the registry is unreachable, saying so;
    /// drop the future to give up.
    ///
    /// # Errors
    /// What waiting cannot cure: an incompatible schema, a refused password.
    pub async fn assign_all(&self, codec: &Codec, prefix: &str) -> Result<(), RegistryError> {
        for topic in topics::ALL {
            let subject = format!("{prefix}{}-value", topic.name);
            let id = self
                .waiting(async || self.id(&subject, topic).await)
                .await?;
            codec.assign(topic, id).map_err(|cause| self.bad(cause))?;
            tracing::info!(subject, id, "schema id taken from the registry");
        }
        Ok(())
    }

    /// The schema that has this id, as JSON.
    ///
    /// # Errors
    /// [`RegistryError::UnknownId`] for good; [`RegistryError::Unreachable`] is transient.
    pub async fn schema(&self, id: u32) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Found {
            schema: String,
        }
        let request = self.client.get(format!("{}/schemas/ids/{id}", self.url));
        match self.ask::<Found>(request, "a schema").await? {
            Answer::Is(found) => Ok(found.schema),
            Answer::Missing => Err(RegistryError::UnknownId {
                url: self.url.clone(),
                id,
            }),
        }
    }

    /// The id of a topic's compiled-in schema; registers it when it is new and we may.
    async fn id(&self, subject: &str, topic: &Topic) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Found {
            id: u32,
        }
        let body = json!({ "schema": topic.schema }).to_string();
        let lookup = format!("{}/subjects/{subject}", self.url);
        let lookup = self.client.post(lookup).body(body.clone());
        if let Answer::Is(found) = self.ask::<Found>(lookup, subject).await? {
            return Ok(found.id);
        }
        let missing = || RegistryError::NotRegistered {
            url: self.url.clone(),
            subject: subject.to_owned(),
        };
        if !self.settings.register {
            return Err(missing());
        }
        let register = format!("{}/subjects/{subject}/versions", self.url);
        let register = self.client.post(register).body(body);
        match self.ask::<Found>(register, subject).await? {
            Answer::Is(found) => Ok(found.id),
            Answer::Missing => Err(missing()),
        }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
        what: &str,
    ) -> Result<Answer<T>, RegistryError> {
        let mut request = request
            .header("Accept", MEDIA)
            .header("Content-Type", MEDIA);
        if let Some(user) = &self.settings.user {
            request = request.basic_auth(user, self.settings.password.as_ref().map(Secret::reveal));
        }
        let unreachable = |cause: reqwest::Error| RegistryError::Unreachable {
            url: self.url.clone(),
            // The innermost cause says what happened; the outer ones repeat the address.
            cause: innermost(&cause),
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map(Answer::Is)
                .map_err(|error| self.refused(what, status, error.to_string()));
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok();
        // 40401 subject, 40402 version, 40403 schema not found; any other 404 is a wrong address.
        if matches!(&problem, Some(problem) if matches!(problem.error_code, 40401..=40403)) {
            return Ok(Answer::Missing);
        }
        let reason = problem.map_or_else(String::new, |problem| problem.message);
        let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        if status.is_server_error() || busy.contains(&status) {
            return Err(RegistryError::Unreachable {
                url: self.url.clone(),
                cause: format!("{status} {reason}"),
            });
        }
        Err(self.refused(what, status, reason))
    }

    async fn waiting<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut wait = FIRST_WAIT;
        loop {
            let error = match attempt().await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            tracing::warn!(%error, retry_ms = wait.as_millis(), "schema registry is unreachable, waiting");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn refused(&self, what: &str, status: StatusCode, reason: String) -> RegistryError {
        RegistryError::Refused {
            url: self.url.clone(),
            what: what.to_owned(),
            status: status.as_u16(),
            reason,
        }
    }

    fn bad(&self, cause: CodecError) -> RegistryError {
        RegistryError::Schema {
            url: self.url.clone(),
            cause,
        }
    }
}

enum Answer<T> {
    Is(T),
    Missing,
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
