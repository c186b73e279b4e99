//! What of the API there is, in every version.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{PORTAL, Portal, associations, batch, calling, objects, properties, search, token};
use crate::Policy;
use crate::front::{self, held};

pub(super) type Asked = State<Arc<Portal>>;

pub(super) fn router(portal: Arc<Portal>) -> Router {
    let mut api = Router::new();
    let mut tokens = Router::new().route("/oauth/v1/token", post(token::exchange));
    for version in &portal.setup.versions {
        api = api.merge(of_version(version));
        tokens = tokens.route(&format!("/oauth/{version}/token"), post(token::exchange));
    }
    api.layer(from_fn_with_state(portal.clone(), admit))
        .merge(tokens)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Not found"))
        .method_not_allowed_fallback(wrong_verb)
        .layer(from_fn_with_state(portal.clone(), front::pass::<Portal>))
        .with_state(portal)
}

/// `v3` comes before what it versions, a date after it; associations are of version 4.
fn of_version(version: &str) -> Router<Arc<Portal>> {
    let dated = version != "v3";
    let at = |area: &str, rest: &str| {
        if dated {
            format!("/crm/{area}/{version}{rest}")
        } else if rest.contains("/associations/") || area == "associations" {
            format!("/crm/v4/{area}{rest}")
        } else {
            format!("/crm/v3/{area}{rest}")
        }
    };
    let account = if dated {
        format!("/account-info/{version}/details")
    } else {
        "/account-info/v3/details".to_owned()
    };
    Router::new()
        .route(&account, get(details))
        .route(
            &at("properties", "/{object}"),
            get(properties::list).post(properties::create),
        )
        .route(&at("properties", "/{object}/{name}"), get(properties::read))
        .route(&at("objects", "/{object}"), post(objects::create))
        .route(
            &at("objects", "/{object}/{id}"),
            get(objects::read)
                .patch(objects::update)
                .delete(objects::archive),
        )
        .route(&at("objects", "/{object}/search"), post(search::search))
        .route(&at("objects", "/{object}/batch/read"), post(batch::read))
        .route(
            &at("objects", "/{object}/batch/create"),
            post(batch::create),
        )
        .route(
            &at("objects", "/{object}/batch/update"),
            post(batch::update),
        )
        .route(
            &at("objects", "/{object}/batch/upsert"),
            post(batch::upsert),
        )
        .route(
            &at("objects", "/{object}/batch/archive"),
            post(batch::archive),
        )
        .route(
            &at("objects", "/{from}/{id}/associations/default/{to}/{to_id}"),
            put(associations::associate),
        )
        .route(
            &at("objects", "/{from}/{id}/associations/{to}"),
            get(associations::list),
        )
        .route(
            &at("associations", "/{from}/{to}/batch/associate/default"),
            post(associations::associate_batch),
        )
        .route(
            &at("extensions/calling", "/inbound-call"),
            post(calling::inbound),
        )
        .route(
            &at("extensions/calling", "/transcripts"),
            post(calling::create),
        )
        .route(
            &at("extensions/calling", "/transcripts/{id}"),
            get(calling::read).delete(calling::delete),
        )
}

async fn wrong_verb(method: Method) -> Refusal {
    let message = format!("HTTP method {method} is not allowed here");
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        message,
    )
}

async fn details() -> Json<Value> {
    Json(
        json!({"portalId": PORTAL, "accountType": "STANDARD", "timeZone": "UTC", "utcOffset": "+00:00"}),
    )
}

/// Who asks.
#[derive(Clone, Copy, PartialEq)]
enum Caller {
    PrivateApp,
    PublicApp,
}

fn caller(portal: &Portal, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let unauthorized =
        |category, message| Refusal::new(StatusCode::UNAUTHORIZED, category, message);
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        return Err(unauthorized(
            "INVALID_AUTHENTICATION",
            "Authentication credentials not found.",
        ));
    };
    if token == portal.setup.private_app_token {
        return Ok(Caller::PrivateApp);
    }
    match portal.tokens().get(token) {
        Some(until) if Instant::now() < *until => Ok(Caller::PublicApp),
        Some(_) => Err(unauthorized(
            "EXPIRED_AUTHENTICATION",
            "The OAuth token used to make this call expired.",
        )),
        None => Err(unauthorized(
            "INVALID_AUTHENTICATION",
            "Authentication credentials not found.",
        )),
    }
}

/// The scope that a request needs, if any.
fn scope(method: &Method, path: &str) -> Option<&'static str> {
    let reads = method == Method::GET || path.ends_with("/batch/read") || path.ends_with("/search");
    let needed = if path.contains("/transcripts") {
        (
            "crm.extensions_calling_transcripts.read",
            "crm.extensions_calling_transcripts.write",
        )
    } else if path.contains("/properties") {
        ("crm.schemas.contacts.read", "crm.schemas.contacts.write")
    } else if path.starts_with("/account-info") {
        return None;
    } else {
        ("crm.objects.contacts.read", "crm.objects.contacts.write")
    };
    Some(if reads { needed.0 } else { needed.1 })
}

/// Lets a request in that may be made, within the limits, and tells what is left of them.
async fn admit(State(portal): Asked, request: Request, next: Next) -> Response {
    match admitted(&portal, &request) {
        Err(refusal) => refusal.into_response(),
        Ok((caller, left)) => {
            let search = request.uri().path().ends_with("/search");
            let mut response = next.run(request).await;
            // Searches tell nothing of the limits.
            if !search {
                limits(&portal, caller, left, response.headers_mut());
            }
            response
        }
    }
}

fn admitted(portal: &Portal, request: &Request) -> Result<(Caller, usize), Refusal> {
    let caller = caller(portal, request.headers())?;
    let path = request.uri().path();
    // Only a public app can have the scopes of calling extensions.
    let calling = path.contains("/extensions/calling");
    if let Some(scope) = scope(request.method(), path) {
        let granted = portal.setup.scopes.iter().any(|own| own == scope);
        if !granted || (calling && caller == Caller::PrivateApp) {
            return Err(Refusal::scopes(scope));
        }
    }
    if !held(&portal.daily).take() {
        return Err(Refusal::limit(Policy::Daily, None));
    }
    let seconds = |wait: std::time::Duration| Some(wait.as_secs() + 1);
    if path.ends_with("/search") {
        held(&portal.searches)
            .take()
            .map_err(|wait| Refusal::limit(Policy::Secondly, seconds(wait)))?;
    }
    let left = held(&portal.rolling)
        .take()
        .map_err(|wait| Refusal::limit(Policy::TenSecondlyRolling, seconds(wait)))?;
    Ok((caller, left))
}

fn limits(portal: &Portal, caller: Caller, left: usize, headers: &mut HeaderMap) {
    let mut tell = |name: &'static str, value: u64| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
    };
    tell("x-hubspot-ratelimit-max", portal.setup.ten_secondly as u64);
    tell("x-hubspot-ratelimit-remaining", left as u64);
    tell("x-hubspot-ratelimit-interval-milliseconds", 10_000);
    // The day's count is told to private apps only.
    if caller == Caller::PrivateApp {
        let daily = held(&portal.daily);
        tell("x-hubspot-ratelimit-daily", daily.most.into());
        tell("x-hubspot-ratelimit-daily-remaining", daily.left().into());
    }
}

/// The JSON of a request. A key that HubSpot does not know is refused.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Refusal> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if !kind.starts_with("application/json") {
        let message = format!("Unsupported content type: {kind}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Refusal::new(status, "VALIDATION_ERROR", message));
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::invalid(format!(
            "Invalid input JSON on line {}, column {}: {error}",
            error.line(),
            error.column()
        ))
    })
}
