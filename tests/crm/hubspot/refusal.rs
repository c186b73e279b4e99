//! What is refused, in HubSpot's words.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Policy;

/// One error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Map<String, Value>,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, category: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "status": "error",
            "message": message.into(),
            "correlationId": Uuid::new_v4(),
            "category": category,
        });
        Self {
            status,
            body: body.as_object().cloned().unwrap_or_default(),
            retry_after: None,
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "OBJECT_NOT_FOUND", message)
    }

    /// 429, with `Retry-After` in seconds where there is one.
    pub(super) fn limit(policy: Policy, retry_after: Option<u64>) -> Self {
        let message = format!(
            "You have reached your {} limit.",
            policy.name().to_lowercase()
        );
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITS", message);
        refusal
            .body
            .insert("errorType".to_owned(), json!("RATE_LIMIT"));
        refusal
            .body
            .insert("policyName".to_owned(), json!(policy.name()));
        refusal.retry_after = retry_after;
        refusal
    }

    pub(super) fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "INTERNAL_ERROR",
            "Service temporarily unavailable",
        )
    }

    pub(super) fn scopes(scope: &str) -> Self {
        let mut refusal = Self::new(
            StatusCode::FORBIDDEN,
            "MISSING_SCOPES",
            "This app hasn't been granted all required scopes to make this call.",
        );
        refusal.body.insert(
            "errors".to_owned(),
            json!([{
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": [scope]},
            }]),
        );
        refusal
    }

    /// As one of the `errors` of a 207.
    pub(super) fn part(&self, context: Value) -> Value {
        json!({
            "status": "error",
            "category": self.body["category"],
            "message": self.body["message"],
            "context": context,
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Value::Object(self.body))).into_response();
        if let Some(seconds) = self.retry_after {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
