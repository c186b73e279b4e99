//! What every request passes first: it is noted, and its fault is drawn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Fault;
use crate::fault::{Faults, Partly};
use crate::journal::Journal;
use crate::line::Cut;

/// Largest request that is read. The real ones allow less in most places.
const LARGEST: usize = 16 * 1024 * 1024;

#[derive(Default)]
pub(crate) struct Front {
    faults: Mutex<Faults>,
    journal: Mutex<Journal>,
}

impl Front {
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        held(&self.faults)
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        held(&self.journal)
    }
}

/// What a server says to the faults that it answers itself.
pub(crate) trait Account: Send + Sync + 'static {
    fn front(&self) -> &Front;

    /// Lets every token expire that can.
    fn expire_tokens(&self);

    /// The refusal for 503 and limits.
    fn refuse(&self, fault: Fault) -> Response;
}

/// The middleware.
pub(crate) async fn pass<A: Account>(
    State(account): State<Arc<A>>,
    ConnectInfo(line): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    // A request that did not arrive whole is none.
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        line.cut();
        return ().into_response();
    };
    let drawn = account.front().faults().take();
    let fault = drawn.map(|(fault, _)| fault);
    let path = parts
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let number = account
        .front()
        .journal()
        .arrived(parts.method.as_str(), &path, fault);
    match fault {
        Some(Fault::ResetBefore) => {
            line.cut();
            return ().into_response();
        }
        Some(Fault::HangBefore) => std::future::pending().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::ExpiredTokens) => account.expire_tokens(),
        Some(Fault::Partly) => {
            parts
                .extensions
                .insert(Partly(drawn.map_or(0, |(_, which)| which)));
        }
        Some(refused @ (Fault::Unavailable | Fault::Limit(_))) => {
            let response = account.refuse(refused);
            let status = response.status().as_u16();
            account.front().journal().answered(number, status);
            return response;
        }
        Some(Fault::ResetAfter | Fault::HangAfter | Fault::Malformed) | None => {}
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    match fault {
        Some(Fault::ResetAfter) => line.cut(),
        Some(Fault::HangAfter) => std::future::pending().await,
        _ => {}
    }
    let status = response.status().as_u16();
    account.front().journal().answered(number, status);
    if fault == Some(Fault::Malformed) {
        return half(response).await;
    }
    response
}

/// The same answer, its body cut in the middle.
async fn half(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, LARGEST)
        .await
        .unwrap_or_else(|_| Bytes::new());
    parts.headers.remove("content-length");
    let half = if body.is_empty() {
        Bytes::from_static(b"{\"id\":")
    } else {
        body.slice(..body.len() / 2)
    };
    Response::from_parts(parts, Body::from(half))
}

/// Locks, whatever happened to who held it before.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
