//! What a client is told when it cannot have what it asked for: `{"error":{"code","message"}}`.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::token::TokenError;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No token, or one that is not accepted.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// No token at all.
    #[error("a token is needed: send it as a bearer token, or open the link you were given")]
    NoToken,
    /// Sent by another site's page.
    #[error("requests from this origin are not accepted")]
    Origin,
    /// There is no such thing, or not any more.
    #[error("{0}")]
    NotFound(&'static str),
    /// It belongs to somebody else.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The request's body is not what it should be.
    #[error("{message}")]
    Body {
        /// How it is wrong.
        status: StatusCode,
        /// What is wrong with it.
        message: String,
    },
    /// One rep has too many screens open.
    #[error("this rep has {0} screens open: close one first")]
    TooManyScreens(usize),
    /// Kafka does not take the event now.
    #[error("this cannot be stored at the moment: try again")]
    Unavailable,
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Token(_) | Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Origin | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Body { status, .. } => *status,
            Self::TooManyScreens(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Token(TokenError::Expired) => "token_expired",
            Self::Token(_) => "token_invalid",
            Self::NoToken => "token_missing",
            Self::Origin => "origin_refused",
            Self::NotFound(_) => "not_found",
            Self::Forbidden(_) => "forbidden",
            Self::Body { .. } => "body_invalid",
            Self::TooManyScreens(_) => "too_many_screens",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body {
            status: rejection.status(),
            message: rejection.body_text(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code(), "message": self.to_string()}});
        (self.status(), Json(body)).into_response()
    }
}
