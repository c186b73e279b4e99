//! `POST /v1/tips/{tip_id}/feedback`: what the rep did with a tip, into `coaching.feedback`.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::{BoxFuture, FutureExt};
use pipeline::{Producer, TraceContext};
use schemas::{Action, Body, Event, EventId, Feedback, Head};
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::session::Asking;
use pipeline::clock;

use super::Shared;

/// How long a client waits for Kafka before it is told to try again.
const WITHIN: Duration = Duration::from_secs(5);

/// Where feedback goes: Kafka, or a test's own list.
pub trait Outlet: Send + Sync + 'static {
    /// Writes the event; false when that cannot be done now.
    fn write<'a>(&'a self, event: &'a Event<Feedback>) -> BoxFuture<'a, bool>;
}

impl Outlet for Producer {
    fn write<'a>(&'a self, event: &'a Event<Feedback>) -> BoxFuture<'a, bool> {
        async move {
            let trace = TraceContext::default();
            match tokio::time::timeout(WITHIN, self.send(event, &trace)).await {
                Ok(Ok(_)) => true,
                Ok(Err(error)) => {
                    tracing::error!(call = event.head.call_id, %error, "feedback not written");
                    false
                }
                Err(_) => {
                    tracing::warn!(call = event.head.call_id, "kafka is slow to take feedback");
                    false
                }
            }
        }
        .boxed()
    }
}

/// Body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Did {
    action: Action,
}

/// Takes feedback; the same feedback again changes nothing.
pub async fn take(
    State(shared): State<Shared>,
    asking: Asking,
    Path(tip_id): Path<String>,
    body: Result<Json<Did>, JsonRejection>,
) -> Result<Response, ApiError> {
    const UNKNOWN: ApiError = ApiError::NotFound("there is no such tip in an open call");
    let Json(Did { action }) = body?;
    let tip_id: EventId = tip_id.parse().map_err(|_| UNKNOWN)?;
    let tip = shared.calls.tip(tip_id, action).ok_or(UNKNOWN)?;
    // Another tenant must not even learn that the tip exists.
    if tip.rep.tenant != asking.rep().tenant {
        return Err(UNKNOWN);
    }
    if tip.rep != asking.rep() {
        return Err(ApiError::Forbidden("this tip is for another rep"));
    }
    let event = event(tip_id, action, &asking, &tip.call_id);
    let answer = Json(json!({"event_id": event.head.event_id, "action": action}));
    if tip.recorded {
        return Ok(answer.into_response());
    }
    if !shared.outlet.write(&event).await {
        return Err(ApiError::Unavailable);
    }
    let counter = shared
        .metrics
        .feedback
        .with_label_values(&[action.as_str()]);
    counter.inc();
    Ok((StatusCode::CREATED, answer).into_response())
}

/// The id derives from tip, rep and action: sent twice, it is still one event.
fn event(tip_id: EventId, action: Action, asking: &Asking, call_id: &str) -> Event<Feedback> {
    let rep = &asking.0.rep;
    let origin = format!("{tip_id}\u{1f}{rep}\u{1f}{action}");
    Event {
        head: Head {
            event_id: EventId::derive("gateway", &origin, 0),
            call_id: call_id.to_owned(),
            tenant: asking.0.tenant.clone(),
            time: clock::now(),
        },
        body: Body::Item(Feedback {
            tip_id,
            rep: rep.clone(),
            action,
        }),
    }
}
