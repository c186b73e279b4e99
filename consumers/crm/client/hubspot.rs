//! HubSpot: calls, upserted in batches by a unique property.

use std::collections::HashMap;
use std::time::Duration;

use pipeline::Secret;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::Answer;
use super::{Answers, Draft, Finding, Line, LineSettings, Record, Trouble};
use crate::crm::mapping::Source;
use crate::crm::note::{self, Kind};
use crate::crm::tenant::HubSpotSettings;

/// Calls in one batch.
pub const BATCH: usize = 100;
/// A token is asked for anew so long before it ends.
const EARLY: Duration = Duration::from_secs(60);
/// How long to pause when HubSpot says that it is too fast, and not for how long.
const PAUSE: Duration = Duration::from_secs(1);

/// One HubSpot account.
pub struct HubSpot {
    settings: HubSpotSettings,
    secret: Secret,
    line: Line,
    token: Mutex<Option<(Secret, Instant)>>,
}

/// What an OAuth app is let in with, as `coach crm secret` takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OAuth {
    client_secret: Secret,
    refresh_token: Secret,
}

impl HubSpot {
    pub(super) fn new(settings: HubSpotSettings, secret: &str, line: LineSettings) -> Self {
        Self {
            settings,
            secret: Secret::new(secret.trim()),
            line: Line::new("hubspot", line),
            token: Mutex::new(None),
        }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    pub(super) async fn write(&self, drafts: &[Draft]) -> Result<Answers, Trouble> {
        let theirs = self.theirs(drafts).await?;
        let mut answers = HashMap::new();
        let (known, new): (Vec<_>, Vec<_>) = drafts
            .iter()
            .partition(|draft| theirs.contains_key(&draft.key));
        if !known.is_empty() {
            let inputs = known.iter().map(|draft| {
                let id = theirs.get(&draft.key).map(String::as_str);
                json!({
                    "id": id.unwrap_or_default(),
                    "properties": self.properties(draft),
                    "objectWriteTraceId": draft.key,
                })
            });
            self.batch("update", inputs.collect(), &mut answers).await?;
        }
        if !new.is_empty() {
            let inputs = new.iter().map(|draft| {
                json!({
                    "id": draft.key,
                    "idProperty": self.settings.key,
                    "properties": self.properties(draft),
                    "objectWriteTraceId": draft.key,
                })
            });
            self.batch("upsert", inputs.collect(), &mut answers).await?;
        }
        self.associate(drafts, &mut answers).await?;
        let answers = drafts.iter().map(|draft| {
            // Neither written nor refused: ask again.
            answers.remove(&draft.key).unwrap_or_else(|| {
                Err(Trouble::Later {
                    code: "unanswered".to_owned(),
                    words: "the answer does not tell what became of it".to_owned(),
                    after: None,
                })
            })
        });
        Ok(answers.collect())
    }

    /// The calls that HubSpot made itself of these: their ids, by our key.
    async fn theirs(&self, drafts: &[Draft]) -> Result<HashMap<String, String>, Trouble> {
        let Some(property) = &self.settings.existing else {
            return Ok(HashMap::new());
        };
        let ids = drafts.iter().map(|draft| draft.call_id.as_str());
        let wanted = [property.as_str(), &self.settings.key];
        let found = self.search("calls", property, ids, &wanted).await?;
        let mut theirs = HashMap::new();
        for record in found {
            let call = record["properties"][property].as_str().unwrap_or_default();
            // One that has a key is found by the upsert.
            let keyed = record["properties"][&self.settings.key].as_str();
            if keyed.is_some_and(|key| !key.is_empty()) {
                continue;
            }
            let draft = drafts.iter().find(|draft| draft.call_id == call);
            if let (Some(draft), Some(id)) = (draft, record["id"].as_str()) {
                theirs.insert(draft.key.clone(), id.to_owned());
            }
        }
        Ok(theirs)
    }

    /// Hangs calls on the contacts with their customers' numbers: a second step, which may be
    /// done as often as one likes.
    async fn associate(
        &self,
        drafts: &[Draft],
        answers: &mut HashMap<String, Result<Record, Trouble>>,
    ) -> Result<(), Trouble> {
        let Some(property) = &self.settings.contacts else {
            return Ok(());
        };
        let numbers = drafts.iter().filter_map(|draft| draft.contact.as_deref());
        let contacts = self
            .search("contacts", property, numbers, &[property.as_str()])
            .await?;
        let by_number: HashMap<&str, &str> = contacts
            .iter()
            .filter_map(|contact| {
                let number = contact["properties"][property].as_str()?;
                Some((number, contact["id"].as_str()?))
            })
            .collect();
        let pairs: Vec<Value> = drafts
            .iter()
            .filter_map(|draft| {
                let contact = by_number.get(draft.contact.as_deref()?)?;
                let Some(Ok(record)) = answers.get(&draft.key) else {
                    return None;
                };
                Some(json!({"from": {"id": record.id}, "to": {"id": contact}}))
            })
            .collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let url = match self.settings.version.as_str() {
            "v3" => "/crm/v4/associations/calls/contacts/batch/associate/default".to_owned(),
            dated => format!("/crm/associations/{dated}/calls/contacts/batch/associate/default"),
        };
        let answer = self
            .ask(Method::POST, &url, Some(json!({ "inputs": pairs })))
            .await?;
        for error in answer.body["errors"].as_array().into_iter().flatten() {
            let of = error["context"]["fromObjectId"][0].as_str();
            let mut known = answers.values_mut();
            let failed = known.find(|a| matches!(a, Ok(record) if Some(record.id.as_str()) == of));
            if let Some(answer) = failed {
                *answer = Err(part(error));
            }
        }
        Ok(())
    }

    /// Records whose `property` is one of `values`.
    async fn search<'a>(
        &self,
        object: &str,
        property: &str,
        values: impl Iterator<Item = &'a str>,
        properties: &[&str],
    ) -> Result<Vec<Value>, Trouble> {
        let values: Vec<&str> = values.collect();
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let filter = json!({"propertyName": property, "operator": "IN", "values": values});
        let mut body = json!({
            "filterGroups": [{"filters": [filter]}],
            "properties": properties,
            "limit": 200,
        });
        let mut found = Vec::new();
        loop {
            let url = self.objects(object, "/search");
            let answer = self.ask(Method::POST, &url, Some(body.clone())).await?;
            let results = answer.body["results"].as_array();
            found.extend(results.into_iter().flatten().cloned());
            match answer.body["paging"]["next"]["after"].as_str() {
                Some(after) => body["after"] = json!(after),
                None => return Ok(found),
            }
        }
    }

    async fn batch(
        &self,
        verb: &str,
        inputs: Vec<Value>,
        answers: &mut HashMap<String, Result<Record, Trouble>>,
    ) -> Result<(), Trouble> {
        let url = self.objects("calls", &format!("/batch/{verb}"));
        let body = json!({ "inputs": inputs });
        let answer = self.ask(Method::POST, &url, Some(body)).await?;
        for result in answer.body["results"].as_array().into_iter().flatten() {
            let traced = result["objectWriteTraceId"].as_str();
            let key = traced.or_else(|| result["properties"][&self.settings.key].as_str());
            if let (Some(key), Some(id)) = (key, result["id"].as_str()) {
                let record = Record {
                    id: id.to_owned(),
                    new: result["new"].as_bool().unwrap_or(false),
                };
                answers.insert(key.to_owned(), Ok(record));
            }
        }
        for error in answer.body["errors"].as_array().into_iter().flatten() {
            let context = &error["context"];
            for name in ["objectWriteTraceId", "ids"] {
                for key in context[name].as_array().into_iter().flatten() {
                    if let Some(key) = key.as_str() {
                        answers.insert(key.to_owned(), Err(part(error)));
                    }
                }
            }
        }
        Ok(())
    }

    fn properties(&self, draft: &Draft) -> Value {
        let mut properties = draft.fields.clone();
        properties.insert(self.settings.key.clone(), json!(draft.key));
        Value::Object(properties)
    }

    pub(super) async fn erase(&self, key: &str) -> Result<bool, Trouble> {
        let by = format!("/{key}?idProperty={}", self.settings.key);
        let found = self
            .ask(Method::GET, &self.objects("calls", &by), None)
            .await;
        let Some(found) = unless_missing(found)? else {
            return Ok(false);
        };
        let url = self.objects("calls", &format!("/{}", found.text("id")));
        Ok(unless_missing(self.ask(Method::DELETE, &url, None).await)?.is_some())
    }

    pub(super) async fn check(&self) -> Vec<Finding> {
        let url = match self.settings.version.as_str() {
            "v3" => "/crm/v3/properties/calls".to_owned(),
            dated => format!("/crm/properties/{dated}/calls"),
        };
        let answer = match self.ask(Method::GET, &url, None).await {
            Ok(answer) => answer,
            Err(trouble) => return vec![Finding::wrong(format!("HubSpot: {trouble}"))],
        };
        let mut findings = vec![Finding::fine("HubSpot lets us in")];
        let properties: HashMap<&str, &Value> = answer.body["results"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|property| Some((property["name"].as_str()?, property)))
            .collect();
        findings.push(self.check_key(&properties));
        for (name, source) in self.settings.fields.iter() {
            findings.extend(check_property(name, source, properties.get(name).copied()));
        }
        if let Some(existing) = &self.settings.existing
            && !properties.contains_key(existing.as_str())
        {
            findings.push(Finding::wrong(format!(
                "calls have no property {existing}, in which HubSpot's own engagements are looked for"
            )));
        }
        let read = self.objects("calls", "/search");
        let nothing = json!({"filterGroups": [], "properties": [], "limit": 1});
        if let Err(trouble) = self.ask(Method::POST, &read, Some(nothing)).await {
            findings.push(Finding::wrong(format!("calls cannot be read: {trouble}")));
        }
        findings
    }

    fn check_key(&self, properties: &HashMap<&str, &Value>) -> Finding {
        let key = &self.settings.key;
        match properties.get(key.as_str()) {
            None => Finding::wrong(format!(
                "create a property of calls: label \"Sales Coach key\", internal name {key}, type \
                 single-line text, with \"Require unique values\" on (Settings → Properties → \
                 Calls; it cannot be switched on later)"
            )),
            Some(property) if property["hasUniqueValue"] != true => Finding::wrong(format!(
                "property {key} of calls does not require unique values, which cannot be switched \
                 on later: create another that does, and name it as key"
            )),
            Some(_) => Finding::fine(format!("property {key} of calls holds our key")),
        }
    }

    fn objects(&self, object: &str, rest: &str) -> String {
        match self.settings.version.as_str() {
            "v3" => format!("/crm/v3/objects/{object}{rest}"),
            dated => format!("/crm/objects/{dated}/{object}{rest}"),
        }
    }

    /// Asks with a token; once more with a new one, when that one had ended early.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Trouble> {
        let url = format!("{}{path}", self.settings.url.trim_end_matches('/'));
        for fresh in [false, true] {
            let token = self.token(fresh).await?;
            let mut request = self.line.client()?.request(method.clone(), &url);
            request = request.bearer_auth(token.reveal());
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = self.line.ask(request).await?;
            let ended = answer.status == StatusCode::UNAUTHORIZED;
            if !(ended && self.settings.client_id.is_some() && !fresh) {
                return self.judge(answer);
            }
        }
        Err(shut(
            "EXPIRED_AUTHENTICATION",
            "a token given just now is refused",
        ))
    }

    async fn token(&self, fresh: bool) -> Result<Secret, Trouble> {
        let Some(client_id) = &self.settings.client_id else {
            return Ok(self.secret.clone());
        };
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = kept.as_ref().filter(|_| !fresh)
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let secret: OAuth = serde_json::from_str(self.secret.reveal()).map_err(|_| {
            shut(
                "secret",
                "the secret of an OAuth app is {\"client_secret\": …, \"refresh_token\": …}",
            )
        })?;
        let form = super::form(&[
            ("grant_type", "refresh_token"),
            ("client_id", client_id),
            ("client_secret", secret.client_secret.reveal()),
            ("refresh_token", secret.refresh_token.reveal()),
        ]);
        let url = format!("{}/oauth/v1/token", self.settings.url.trim_end_matches('/'));
        let request = self.line.client()?.post(url);
        let answer = self.line.ask(super::form_encoded(request, form)).await?;
        if answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS {
            return Err(shut(answer.text("status"), answer.text("message")));
        }
        let answer = self.judge(answer)?;
        let token = Secret::new(answer.text("access_token"));
        let lasts = Duration::from_secs(answer.body["expires_in"].as_u64().unwrap_or(0));
        *kept = Some((token.clone(), Instant::now() + lasts.saturating_sub(EARLY)));
        Ok(token)
    }

    /// What an answer means.
    fn judge(&self, answer: Answer) -> Result<Answer, Trouble> {
        let status = answer.status;
        if status.is_success() {
            return Ok(answer);
        }
        let (category, words) = (answer.text("category"), answer.text("message"));
        let code = if category.is_empty() {
            status.as_str()
        } else {
            category
        };
        Err(match status.as_u16() {
            429 if answer.text("policyName") == "DAILY" => Trouble::Daily {
                words: words.to_owned(),
                after: answer.retry_after(),
            },
            429 => {
                let pause = answer.retry_after().unwrap_or(PAUSE);
                self.line.hold(pause);
                Trouble::TooFast(pause)
            }
            401 | 403 => {
                let scopes = &answer.body["errors"][0]["context"]["requiredGranularScopes"];
                match scopes.as_array() {
                    Some(scopes) => shut(code, &format!("{words} Missing: {}", json!(scopes))),
                    None => shut(code, words),
                }
            }
            408 | 423 | 500.. => Trouble::Later {
                code: code.to_owned(),
                words: words.to_owned(),
                after: answer.retry_after(),
            },
            _ => refused(code, words),
        })
    }
}

/// None when it is not there.
fn unless_missing(answer: Result<Answer, Trouble>) -> Result<Option<Answer>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Trouble::Refused { code, .. }) if code == "OBJECT_NOT_FOUND" || code == "404" => {
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

/// What one of the errors of a 207 means.
fn part(error: &Value) -> Trouble {
    let text = |field: &str| error[field].as_str().unwrap_or_default();
    let (code, words) = (text("category"), text("message"));
    match code {
        "VALIDATION_ERROR" | "OBJECT_NOT_FOUND" | "CONFLICT" => refused(code, words),
        _ => Trouble::Later {
            code: code.to_owned(),
            words: words.to_owned(),
            after: None,
        },
    }
}

fn refused(code: &str, words: &str) -> Trouble {
    Trouble::Refused {
        code: code.to_owned(),
        words: words.to_owned(),
        all: words.contains("PROPERTY_DOESNT_EXIST"),
    }
}

fn shut(code: &str, words: &str) -> Trouble {
    Trouble::Shut {
        code: code.to_owned(),
        words: words.to_owned(),
    }
}

/// What is wrong with a property that the mapping writes.
fn check_property(name: &str, source: &Source, property: Option<&Value>) -> Option<Finding> {
    let Some(property) = property else {
        return Some(Finding::wrong(format!(
            "calls have no property {name}: create it (Settings → Properties → Calls), or take it \
             out of hubspot.fields"
        )));
    };
    if property["modificationMetadata"]["readOnlyValue"] == true {
        return Some(Finding::wrong(format!(
            "property {name} of calls is read-only"
        )));
    }
    let Source::Value(value) = source else {
        return None;
    };
    let kind = note::NAMES.iter().find(|(known, _)| known == value)?.1;
    let theirs = property["type"].as_str().unwrap_or_default();
    let fits = match kind {
        Kind::Line | Kind::Text => matches!(theirs, "string" | "enumeration" | "phone_number"),
        Kind::Number => matches!(theirs, "number" | "string"),
        Kind::Flag => matches!(theirs, "bool" | "enumeration" | "string"),
        Kind::Time => matches!(theirs, "datetime" | "string"),
        Kind::Day => matches!(theirs, "date" | "string"),
    };
    (!fits).then(|| {
        Finding::wrong(format!(
            "property {name} of calls is of type {theirs}, which {value} does not fit"
        ))
    })
}
