//! Calling extensions: inbound calls that HubSpot makes an engagement of, and transcripts.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::routes::{Asked, json};
use crate::Change;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Inbound {
    create_engagement: bool,
    engagement_properties: HashMap<String, String>,
    external_call_id: String,
    final_call_status: Option<String>,
    from_number: Number,
    to_number: Number,
    potential_recipient_user_ids: Vec<u64>,
    call_started_timestamp: Option<String>,
    duration_seconds: Option<u64>,
    #[serde(rename = "userId")]
    _user_id: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Number {
    e164_number: String,
    #[serde(rename = "extension")]
    _extension: Option<String>,
    #[serde(rename = "phoneNumberType")]
    _phone_number_type: Option<String>,
}

/// Answers with who the caller may be, and not with the engagement: it is found by its external id.
pub(super) async fn inbound(
    State(portal): Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let call: Inbound = json(&headers, &body)?;
    if call.potential_recipient_user_ids.is_empty() {
        return Err(Refusal::invalid(
            "potentialRecipientUserIds must not be empty",
        ));
    }
    for number in [&call.from_number, &call.to_number] {
        if !number.e164_number.starts_with('+') {
            return Err(Refusal::invalid("e164Number must begin with +"));
        }
    }
    if call.create_engagement {
        let object = portal.object("calls")?;
        let started = call.call_started_timestamp.clone();
        let mut properties: Map<String, Value> = call
            .engagement_properties
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                properties.entry(name.to_owned()).or_insert(json!(value));
            }
        };
        let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
        set("hs_timestamp", Some(started.unwrap_or(now)));
        set("hs_call_external_id", Some(call.external_call_id.clone()));
        set("hs_call_direction", Some("INBOUND".to_owned()));
        set("hs_call_status", call.final_call_status.clone());
        set(
            "hs_call_from_number",
            Some(call.from_number.e164_number.clone()),
        );
        set(
            "hs_call_to_number",
            Some(call.to_number.e164_number.clone()),
        );
        set(
            "hs_call_duration",
            call.duration_seconds.map(|s| (s * 1_000).to_string()),
        );
        let properties = object.check(&properties).map_err(Refusal::invalid)?;
        let made = {
            let mut records = portal.records();
            let known = records.live(&object).any(|record| {
                record.properties.get("hs_call_external_id") == Some(&json!(call.external_call_id))
            });
            if known {
                None
            } else {
                Some(records.create(&object, properties.clone())?.id.clone())
            }
        };
        if let Some(id) = made {
            portal.wrote(object.name, &id, Change::Created, properties);
        }
    }
    let contacts = portal.object("contacts")?;
    let records = portal.records();
    let matches: Vec<Value> = records
        .live(&contacts)
        .filter(|record| {
            let number = json!(call.from_number.e164_number);
            ["phone", "mobilephone"]
                .iter()
                .any(|name| record.properties.get(*name) == Some(&number))
        })
        .map(|record| {
            json!({
                "callerIdType": "CONTACT",
                "objectCoordinates": {
                    "portalId": super::PORTAL,
                    "objectTypeId": contacts.id,
                    "objectId": record.id.parse::<u64>().unwrap_or_default(),
                },
            })
        })
        .collect();
    Ok(Json(json!({"callerIdMatches": matches})))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Transcript {
    engagement_id: Value,
    transcript_create_utterances: Vec<Utterance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Utterance {
    speaker: Speaker,
    text: String,
    language_code: Option<String>,
    start_time_millis: i64,
    end_time_millis: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Speaker {
    id: Value,
    name: String,
    email: Option<String>,
}

pub(super) async fn create(
    State(portal): Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let transcript: Transcript = json(&headers, &body)?;
    let engagement = match &transcript.engagement_id {
        Value::Number(id) => id.to_string(),
        Value::String(id) => id.clone(),
        _ => return Err(Refusal::invalid("engagementId must not be null")),
    };
    if transcript.transcript_create_utterances.is_empty() {
        return Err(Refusal::invalid(
            "transcriptCreateUtterances must not be empty",
        ));
    }
    let mut utterances = Vec::new();
    for utterance in transcript.transcript_create_utterances {
        if utterance.start_time_millis < 0
            || utterance.end_time_millis <= utterance.start_time_millis
        {
            return Err(Refusal::invalid(
                "endTimeMillis must be greater than startTimeMillis",
            ));
        }
        if utterance.text.trim().is_empty() {
            return Err(Refusal::invalid("text must not be empty"));
        }
        utterances.push(json!({
            "speaker": {
                "id": utterance.speaker.id,
                "name": utterance.speaker.name,
                "email": utterance.speaker.email,
            },
            "text": utterance.text,
            "languageCode": utterance.language_code.as_deref().unwrap_or("en-US"),
            "startTimeMillis": utterance.start_time_millis,
            "endTimeMillis": utterance.end_time_millis,
        }));
    }
    let calls = portal.object("calls")?;
    let id = {
        let mut records = portal.records();
        records.get(&calls, None, &engagement)?;
        let id = records.next_id();
        let whole =
            json!({"id": id, "engagementId": engagement, "transcriptUtterances": utterances});
        records.transcripts.insert(id.clone(), whole);
        id
    };
    let of = json!({"engagementId": engagement}).as_object().cloned();
    portal.wrote("transcripts", &id, Change::Created, of.unwrap_or_default());
    Ok(Json(json!({"id": id})))
}

pub(super) async fn read(
    State(portal): Asked,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let records = portal.records();
    let transcript = records.transcripts.get(&id).cloned();
    let missing = || Refusal::not_found(format!("No transcript {id}"));
    transcript.map(Json).ok_or_else(missing)
}

pub(super) async fn delete(
    State(portal): Asked,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let removed = portal.records().transcripts.remove(&id);
    if removed.is_none() {
        return Err(Refusal::not_found(format!("No transcript {id}")));
    }
    portal.wrote("transcripts", &id, Change::Deleted, Map::new());
    Ok(StatusCode::NO_CONTENT)
}
