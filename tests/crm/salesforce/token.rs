//! The OAuth 2.0 JWT bearer flow.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Org;

/// Longest time before its expiry that an assertion is accepted, with the clocks' difference.
const LONGEST: Duration = Duration::from_secs(5 * 60);
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Form {
    grant_type: Option<String>,
    assertion: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Value>,
    exp: Option<u64>,
}

fn refused(error: &str, description: &str) -> Response {
    let body = json!({"error": error, "error_description": description});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// Checks an assertion and gives a token.
pub(super) fn grant(org: &Org, form: &Form) -> Response {
    if form.grant_type.as_deref() != Some(GRANT) {
        return refused("unsupported_grant_type", "grant type not supported");
    }
    let Some(assertion) = &form.assertion else {
        return refused("invalid_request", "assertion is required");
    };
    match check(org, assertion) {
        Ok(()) => given(org),
        Err((error, description)) => refused(error, description),
    }
}

fn check(org: &Org, assertion: &str) -> Result<(), (&'static str, &'static str)> {
    const INVALID: (&str, &str) = ("invalid_grant", "invalid assertion");
    let header = decode_header(assertion).map_err(|_| INVALID)?;
    if header.alg != Algorithm::RS256 {
        return Err(INVALID);
    }
    let claims: Claims = insecure_decode(assertion).map_err(|_| INVALID)?.claims;
    if claims.iss.as_deref() != Some(&org.setup.client_id) {
        return Err(("invalid_client_id", "client identifier invalid"));
    }
    let mut validation = Validation::new(Algorithm::RS256);
    // What follows says more precisely what is wrong with the claims.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    decode::<Claims>(assertion, &org.public_key, &validation).map_err(|_| INVALID)?;
    let audience = match &claims.aud {
        Some(Value::String(audience)) => audience.as_str(),
        _ => "",
    };
    if !org.setup.audiences.iter().any(|known| known == audience) {
        return Err(("invalid_grant", "audience is invalid"));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let expires = Duration::from_secs(claims.exp.ok_or(INVALID)?);
    if expires <= now {
        return Err(("invalid_grant", "expired authorization code"));
    }
    if expires > now + LONGEST {
        return Err(INVALID);
    }
    if claims.sub.as_deref() != Some(&org.setup.username) {
        return Err(("invalid_grant", "user hasn't approved this consumer"));
    }
    Ok(())
}

fn given(org: &Org) -> Response {
    let token = format!("00D5g000007TESTEAA!{}", Uuid::new_v4().simple());
    let until = Instant::now() + org.setup.token_lifetime;
    org.tokens().insert(token.clone(), until);
    Json(json!({
        "access_token": token,
        "scope": "api",
        "instance_url": org.url,
        "id": format!("{}/id/00D5g000007TESTEAA/0055g000000TESTAA0", org.url),
        "token_type": "Bearer",
    }))
    .into_response()
}
