//! Who is asking: the token in `Authorization: Bearer`, or in the cookie that a page gets for the
//! token in its address's fragment. A token never stands in a request line, so never in a log.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::call::RepId;
use super::error::ApiError;
use super::token::Claims;

const COOKIE: &str = "sales_coach";

/// The rep who is asking.
pub struct Asking(pub Claims);

impl Asking {
    /// The rep.
    pub fn rep(&self) -> RepId {
        RepId::new(&self.0.tenant, &self.0.rep)
    }

    /// How long the token is still good.
    pub fn left(&self) -> Duration {
        let expires = UNIX_EPOCH + Duration::from_secs(self.0.exp);
        expires
            .duration_since(SystemTime::now())
            .unwrap_or_default()
    }
}

impl FromRequestParts<Shared> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        if let Some(token) = bearer(headers) {
            return Ok(Self(shared.tokens.verify(token)?));
        }
        // Browsers add a cookie to requests of any page: only ours may change something.
        if parts.method != Method::GET && !from_own_page(headers) {
            return Err(ApiError::Origin);
        }
        let token = cookie(headers).ok_or(ApiError::NoToken)?;
        Ok(Self(shared.tokens.verify(token)?))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Whether a page of this gateway sent the request: its origin is the host that was asked.
fn from_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    match (origin, text(header::HOST)) {
        (Some((_, origin)), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Body of `POST /v1/session`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    token: String,
}

/// `POST /v1/session`: a cookie for a token.
pub async fn open(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Result<Json<Open>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(Open { token }) = body?;
    if headers.contains_key(header::ORIGIN) && !from_own_page(&headers) {
        return Err(ApiError::Origin);
    }
    let asking = Asking(shared.tokens.verify(&token)?);
    let cookie = set_cookie(&shared, &token, asking.left());
    Ok(([(header::SET_COOKIE, cookie)], describe(&asking)).into_response())
}

/// `GET /v1/session`: who is asking.
pub async fn show(asking: Asking) -> Response {
    describe(&asking).into_response()
}

/// `DELETE /v1/session`: takes the cookie back.
pub async fn close(State(shared): State<Shared>, _asking: Asking) -> Response {
    let cookie = set_cookie(&shared, "", Duration::ZERO);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

fn describe(asking: &Asking) -> Json<serde_json::Value> {
    let Claims { tenant, rep, exp } = &asking.0;
    Json(json!({"tenant": tenant, "rep": rep, "expires_at": exp.saturating_mul(1000)}))
}

fn set_cookie(shared: &Shared, token: &str, lifetime: Duration) -> String {
    let seconds = lifetime.as_secs();
    let framed = !shared.settings.frame_ancestors.is_empty();
    let reach = match (shared.settings.https, framed) {
        // A frame of another site gets its own jar of cookies, which no other site can use.
        (true, true) => "SameSite=None; Secure; Partitioned",
        (true, false) => "SameSite=Strict; Secure",
        (false, _) => "SameSite=Strict",
    };
    format!("{COOKIE}={token}; Path=/; HttpOnly; Max-Age={seconds}; {reach}")
}
