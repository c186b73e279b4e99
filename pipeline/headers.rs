//! Headers that ride with records: the trace, and where a dead letter comes from. What marks a
//! replayed record is in `replay::mark`.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use crate::TraceContext;

/// Name of the W3C trace context's header.
pub const TRACEPARENT: &str = "traceparent";

/// The trace a record belongs to; empty when it names none.
pub fn trace_of<H: Headers>(headers: Option<&H>) -> TraceContext {
    let traceparent = headers
        .into_iter()
        .flat_map(Headers::iter)
        .find(|header| header.key == TRACEPARENT)
        .and_then(|header| std::str::from_utf8(header.value?).ok())
        .unwrap_or_default();
    TraceContext {
        traceparent: traceparent.to_owned(),
    }
}

/// The headers of a record that carries this trace.
pub fn with_trace(trace: &TraceContext) -> OwnedHeaders {
    let headers = OwnedHeaders::new();
    if trace.traceparent.is_empty() {
        return headers;
    }
    headers.insert(Header {
        key: TRACEPARENT,
        value: Some(&trace.traceparent),
    })
}

/// A copy of a record's headers.
pub(crate) fn copy(record: &BorrowedMessage<'_>) -> OwnedHeaders {
    record
        .headers()
        .map_or_else(OwnedHeaders::new, |headers| headers.detach())
}
