//! A decoded event with where it came from.

use schemas::Event;

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Topic on the broker, prefix included.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// W3C trace context, carried in the record's `traceparent` header from stage to stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The header's text, `00-<trace id>-<span id>-<flags>`; empty when the record has none.
    pub traceparent: String,
}

impl TraceContext {
    /// The start of a new trace.
    pub fn start() -> Self {
        let trace = rand::random::<u128>().max(1);
        Self::of(&format!("{trace:032x}"), "01")
    }

    /// The next step of this trace: same trace, new span. A new trace when this is none.
    pub fn next(&self) -> Self {
        let parts: Vec<&str> = self.traceparent.split('-').collect();
        match parts[..] {
            ["00", trace, span, flags] if trace.len() == 32 && span.len() == 16 => {
                Self::of(trace, flags)
            }
            _ => Self::start(),
        }
    }

    fn of(trace: &str, flags: &str) -> Self {
        let span = rand::random::<u64>().max(1);
        Self {
            traceparent: format!("00-{trace}-{span:016x}-{flags}"),
        }
    }
}

/// An event as a stage gets it.
#[derive(Clone, Debug)]
pub struct Envelope<E> {
    /// The event.
    pub event: E,
    /// Where its record lies.
    pub origin: Origin,
    /// When the broker or producer stamped the record, in milliseconds since 1970.
    pub timestamp: i64,
    /// Trace it belongs to.
    pub trace: TraceContext,
    /// The runner is rebuilding the call's state after a restart or rebalance: what the stage
    /// emits now was written before and is thrown away. The state must come out the same as when
    /// the record was new; work that only serves the output may be left out.
    pub rebuilding: bool,
}

/// What a stage reads: an event of the topic whose item is `T`.
pub type Input<T> = Envelope<Event<T>>;
