//! Salesforce: records upserted by an external id, in sObject Collections.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pipeline::Secret;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, OnceCell};

use super::line::Answer;
use super::{Answers, Draft, Finding, Line, LineSettings, Record, Trouble};
use crate::crm::mapping::{Mapping, Source};
use crate::crm::note::{self, Kind};
use crate::crm::tenant::SalesforceSettings;

/// Records in one batch.
pub const BATCH: usize = 200;
/// How long an assertion is good for.
const ASSERTION: Duration = Duration::from_secs(180);
/// How long to wait when too many long requests run at once.
const CROWDED: Duration = Duration::from_secs(5);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// One Salesforce org.
pub struct Salesforce {
    settings: SalesforceSettings,
    secret: Secret,
    line: Line,
    token: Mutex<Option<Token>>,
    /// Whether tasks can be upserted, once Salesforce has told.
    tasks: OnceCell<bool>,
}

#[derive(Clone)]
struct Token {
    access: Secret,
    instance: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    /// Seconds since 1970.
    exp: i64,
}

impl Salesforce {
    pub(super) fn new(settings: SalesforceSettings, secret: &str, line: LineSettings) -> Self {
        Self {
            settings,
            secret: Secret::new(secret),
            line: Line::new("salesforce", line),
            token: Mutex::new(None),
            tasks: OnceCell::new(),
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) async fn write(&self, drafts: &[Draft]) -> Result<Answers, Trouble> {
        let (object, key) = (&self.settings.object, &self.settings.key);
        let rows = drafts
            .iter()
            .map(|draft| (draft.key.as_str(), &draft.fields));
        let mut answers = self.upsert(object, key, rows.collect()).await?;
        if !self.has_tasks().await? {
            return Ok(answers);
        }
        let written: Vec<usize> = (0..drafts.len())
            .filter(|at| answers[*at].is_ok())
            .collect();
        if written.is_empty() {
            return Ok(answers);
        }
        let rows = written
            .iter()
            .map(|at| (drafts[*at].key.as_str(), &drafts[*at].task));
        let tasks = self
            .upsert("Task", &self.settings.task.key, rows.collect())
            .await?;
        for (at, task) in written.into_iter().zip(tasks) {
            if let Err(trouble) = task {
                answers[at] = Err(trouble);
            }
        }
        Ok(answers)
    }

    /// Whether `describe` shows the task's key as an external id.
    async fn has_tasks(&self) -> Result<bool, Trouble> {
        let has = self.tasks.get_or_try_init(|| async {
            let answer = self
                .ask(Method::GET, "/sobjects/Task/describe", None)
                .await?;
            let fields = answer.body["fields"].as_array();
            let mut fields = fields.into_iter().flatten();
            let key = fields.find(|field| field["name"] == self.settings.task.key.as_str());
            Ok(key.is_some_and(|key| key["externalId"] == true))
        });
        has.await.copied()
    }

    /// Upserts records by a field; the answers are in the rows' order.
    async fn upsert(
        &self,
        object: &str,
        key: &str,
        rows: Vec<(&str, &Map<String, Value>)>,
    ) -> Result<Answers, Trouble> {
        let count = rows.len();
        let records = rows.into_iter().map(|(value, fields)| {
            let mut record = fields.clone();
            record.insert("attributes".to_owned(), json!({ "type": object }));
            record.insert(key.to_owned(), json!(value));
            Value::Object(record)
        });
        let body = json!({"allOrNone": false, "records": records.collect::<Vec<_>>()});
        let path = format!("/composite/sobjects/{object}/{key}");
        let answer = self.ask(Method::PATCH, &path, Some(body)).await?;
        let results = answer.body.as_array().map_or(&[][..], Vec::as_slice);
        if results.len() != count {
            return Err(Trouble::Later {
                code: "unanswered".to_owned(),
                words: format!("{} answers to {count} records", results.len()),
                after: None,
            });
        }
        Ok(results.iter().map(row).collect())
    }

    pub(super) async fn erase(&self, key: &str) -> Result<bool, Trouble> {
        let mut erased = false;
        let mut places = vec![(self.settings.object.as_str(), self.settings.key.as_str())];
        if self.has_tasks().await? {
            places.push(("Task", self.settings.task.key.as_str()));
        }
        for (object, field) in places {
            let path = format!("/sobjects/{object}/{field}/{key}");
            match self.ask(Method::DELETE, &path, None).await {
                Ok(_) => erased = true,
                Err(Trouble::Refused { code, .. }) if code == "NOT_FOUND" => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(erased)
    }

    pub(super) async fn check(&self) -> Vec<Finding> {
        if let Err(trouble) = self.token(true).await {
            return vec![Finding::wrong(format!("Salesforce: {trouble}"))];
        }
        let mut findings = vec![Finding::fine("Salesforce lets us in")];
        let object = &self.settings.object;
        match self.describe(object).await {
            Ok(described) => {
                let (key, fields) = (&self.settings.key, &self.settings.fields);
                findings.extend(check_object(object, &described, key, fields));
            }
            Err(Trouble::Refused { code, .. }) if code == "NOT_FOUND" => {
                findings.push(Finding::wrong(format!(
                    "there is no object {object}, or the user may not see it: create it (Setup → \
                     Object Manager → Create), with these fields:"
                )));
                findings.push(Finding::wrong(create_key(object, &self.settings.key)));
                let fields = self.settings.fields.iter();
                findings.extend(fields.map(|(name, source)| create_field(object, name, source)));
            }
            Err(trouble) => findings.push(Finding::wrong(format!("{object}: {trouble}"))),
        }
        match self.has_tasks().await {
            Ok(true) => match self.describe("Task").await {
                Ok(described) => {
                    let task = &self.settings.task;
                    findings.extend(check_object("Task", &described, &task.key, &task.fields));
                }
                Err(trouble) => findings.push(Finding::wrong(format!("Task: {trouble}"))),
            },
            Ok(false) => findings.push(Finding::fine(format!(
                "Task has no external id field {}: calls are written as {object} only",
                self.settings.task.key
            ))),
            Err(trouble) => findings.push(Finding::wrong(format!("Task: {trouble}"))),
        }
        findings
    }

    async fn describe(&self, object: &str) -> Result<Value, Trouble> {
        let path = format!("/sobjects/{object}/describe");
        Ok(self.ask(Method::GET, &path, None).await?.body)
    }

    /// Asks with a token; once more with a new one, when that one had ended.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Trouble> {
        for fresh in [false, true] {
            let token = self.token(fresh).await?;
            let version = &self.settings.version;
            let url = format!("{}/services/data/{version}{path}", token.instance);
            let mut request = self.line.client()?.request(method.clone(), url);
            request = request.bearer_auth(token.access.reveal());
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = self.line.ask(request).await?;
            if fresh || answer.status != StatusCode::UNAUTHORIZED {
                return judge(answer);
            }
        }
        Err(shut(
            "INVALID_SESSION_ID",
            "a token given just now is refused",
        ))
    }

    async fn token(&self, fresh: bool) -> Result<Token, Trouble> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|_| !fresh) {
            return Ok(token.clone());
        }
        let form = super::form(&[("grant_type", GRANT), ("assertion", &self.assertion()?)]);
        let url = format!(
            "{}/services/oauth2/token",
            self.settings.url.trim_end_matches('/')
        );
        let request = self.line.client()?.post(url);
        let answer = self.line.ask(super::form_encoded(request, form)).await?;
        if answer.status.is_server_error() {
            return Err(later(answer.status.as_str(), "no token is given"));
        }
        if !answer.status.is_success() {
            return Err(shut(answer.text("error"), answer.text("error_description")));
        }
        let token = Token {
            access: Secret::new(answer.text("access_token")),
            instance: answer.text("instance_url").trim_end_matches('/').to_owned(),
        };
        *kept = Some(token.clone());
        Ok(token)
    }

    /// Says, signed with the connected app's key, on whose behalf we come.
    fn assertion(&self) -> Result<String, Trouble> {
        let no_key = |error: jsonwebtoken::errors::Error| {
            shut(
                "secret",
                &format!("the secret is the connected app's RSA private key in PEM: {error}"),
            )
        };
        let key = EncodingKey::from_rsa_pem(self.secret.reveal().as_bytes()).map_err(no_key)?;
        let lasts = i64::try_from(ASSERTION.as_secs()).unwrap_or(0);
        let claims = Claims {
            iss: &self.settings.client_id,
            sub: &self.settings.username,
            aud: &self.settings.audience,
            exp: pipeline::clock::now() / 1_000 + lasts,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).map_err(no_key)
    }
}

/// What became of one record of a collection.
fn row(result: &Value) -> Result<Record, Trouble> {
    if result["success"] == true {
        return Ok(Record {
            id: result["id"].as_str().unwrap_or_default().to_owned(),
            new: result["created"].as_bool().unwrap_or(false),
        });
    }
    let error = &result["errors"][0];
    let text = |field: &str| error[field].as_str().unwrap_or_default();
    Err(meaning(
        text("statusCode"),
        text("message"),
        StatusCode::BAD_REQUEST,
    ))
}

/// What an answer means. The error code tells more than the status.
fn judge(answer: Answer) -> Result<Answer, Trouble> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    if answer.status == StatusCode::MULTIPLE_CHOICES {
        return Err(Trouble::Refused {
            code: "300".to_owned(),
            words: "several records have this external id".to_owned(),
            all: false,
        });
    }
    let error = &answer.body[0];
    let text = |field: &str| error[field].as_str().unwrap_or_default();
    Err(meaning(text("errorCode"), text("message"), answer.status))
}

fn meaning(code: &str, words: &str, status: StatusCode) -> Trouble {
    match code {
        "REQUEST_LIMIT_EXCEEDED" if words.contains("Concurrent") => Trouble::TooFast(CROWDED),
        "REQUEST_LIMIT_EXCEEDED" => Trouble::Daily {
            words: words.to_owned(),
            after: None,
        },
        "UNABLE_TO_LOCK_ROW"
        | "SERVER_UNAVAILABLE"
        | "QUERY_TIMEOUT"
        | "REQUEST_RUNNING_TOO_LONG" => later(code, words),
        "INVALID_SESSION_ID"
        | "API_DISABLED_FOR_ORG"
        | "API_CURRENTLY_DISABLED"
        | "INSUFFICIENT_ACCESS" => shut(code, words),
        _ if status.is_server_error() => later(
            if code.is_empty() {
                status.as_str()
            } else {
                code
            },
            words,
        ),
        "" => refused(status.as_str(), "no reason is given"),
        _ => refused(code, words),
    }
}

fn refused(code: &str, words: &str) -> Trouble {
    Trouble::Refused {
        code: code.to_owned(),
        words: words.to_owned(),
        all: matches!(code, "INVALID_FIELD" | "NOT_FOUND" | "INVALID_TYPE"),
    }
}

fn later(code: &str, words: &str) -> Trouble {
    Trouble::Later {
        code: code.to_owned(),
        words: words.to_owned(),
        after: None,
    }
}

fn shut(code: &str, words: &str) -> Trouble {
    Trouble::Shut {
        code: code.to_owned(),
        words: words.to_owned(),
    }
}

/// Compares a mapping with what `describe` says of an object.
fn check_object(object: &str, described: &Value, key: &str, mapping: &Mapping) -> Vec<Finding> {
    let fields: HashMap<&str, &Value> = described["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|field| Some((field["name"].as_str()?, field)))
        .collect();
    let mut findings = Vec::new();
    if described["createable"] != true || described["updateable"] != true {
        findings.push(Finding::wrong(format!(
            "the user may not create and edit {object}: give its permission set both"
        )));
    }
    findings.push(match fields.get(key) {
        None => Finding::wrong(create_key(object, key)),
        Some(field) if field["externalId"] != true || field["unique"] != true => Finding::wrong(
            format!("{object}.{key} must be both an external id and unique"),
        ),
        Some(_) => Finding::fine(format!("{object}.{key} holds our key")),
    });
    for (name, source) in mapping.iter() {
        match fields.get(name) {
            None => findings.push(create_field(object, name, source)),
            Some(field) => findings.extend(check_field(object, name, source, field)),
        }
    }
    findings
}

fn check_field(object: &str, name: &str, source: &Source, field: &Value) -> Option<Finding> {
    if field["createable"] != true || field["updateable"] != true {
        return Some(Finding::wrong(format!(
            "the user may not write {object}.{name}: give its permission set edit access"
        )));
    }
    let kind = kind(source)?;
    let theirs = field["type"].as_str().unwrap_or_default();
    let length = field["length"].as_u64().unwrap_or(0);
    let fits = match kind {
        Kind::Line => matches!(
            theirs,
            "string" | "textarea" | "picklist" | "url" | "phone" | "reference"
        ),
        Kind::Text => matches!(theirs, "string" | "textarea") && length >= 32_000,
        Kind::Number => matches!(theirs, "double" | "int" | "percent" | "currency"),
        Kind::Flag => theirs == "boolean",
        Kind::Time => theirs == "datetime",
        Kind::Day => theirs == "date",
    };
    (!fits).then(|| {
        Finding::wrong(format!(
            "{object}.{name} is of type {theirs}({length}): it must be {}",
            wanted(kind)
        ))
    })
}

fn kind(source: &Source) -> Option<Kind> {
    match source {
        Source::Value(value) => note::NAMES
            .iter()
            .find(|(n, _)| n == value)
            .map(|(_, k)| *k),
        Source::Fixed(_) => None,
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Line => "Text(255), or URL for a link",
        Kind::Text => "Long Text Area(32000)",
        Kind::Number => "Number(16, 2)",
        Kind::Flag => "Checkbox",
        Kind::Time => "Date/Time",
        Kind::Day => "Date",
    }
}

fn create_key(object: &str, key: &str) -> String {
    format!("create {object}.{key}: Text(36), with External ID and Unique on")
}

fn create_field(object: &str, name: &str, source: &Source) -> Finding {
    let kind = kind(source).unwrap_or(Kind::Line);
    Finding::wrong(format!("create {object}.{name}: {}", wanted(kind)))
}
