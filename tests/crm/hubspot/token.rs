//! OAuth: a refresh token is exchanged for an access token.

use std::time::Instant;

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::routes::Asked;

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Exchange {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
}

fn refused(status: &str, message: &str) -> Response {
    let body = json!({"status": status, "message": message, "correlationId": Uuid::new_v4()});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

pub(super) async fn exchange(
    State(portal): Asked,
    form: Result<Form<Exchange>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else {
        return refused("BAD_REQUEST", "the request must be form-encoded");
    };
    let setup = &portal.setup;
    if form.grant_type.as_deref() != Some("refresh_token") {
        return refused("BAD_GRANT_TYPE", "missing or unknown grant type");
    }
    if form.client_id.as_ref() != Some(&setup.client_id) {
        return refused("BAD_CLIENT_ID", "missing or unknown client id");
    }
    if form.client_secret.as_ref() != Some(&setup.client_secret) {
        return refused("BAD_CLIENT_SECRET", "missing or invalid client secret");
    }
    if form.refresh_token.as_ref() != Some(&setup.refresh_token) {
        return refused("BAD_REFRESH_TOKEN", "missing or invalid refresh token");
    }
    let token = format!("CTestAccess-{}", Uuid::new_v4().simple());
    let until = Instant::now() + setup.token_lifetime;
    portal.tokens().insert(token.clone(), until);
    Json(json!({
        "token_type": "bearer",
        "access_token": token,
        "refresh_token": setup.refresh_token,
        "expires_in": setup.token_lifetime.as_secs(),
    }))
    .into_response()
}
