//! What a process tells of itself: log lines on standard error, Prometheus metrics, and whether
//! it is alive and ready, over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::TraceContext;
use crate::config::Section;

/// Section `telemetry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Where `/metrics`, `/live` and `/ready` are served; port 0 takes any free one.
    pub listen: SocketAddr,
    /// What is logged.
    pub log: LogFilter,
    /// How log lines are written.
    pub format: LogFormat,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            log: LogFilter::default(),
            format: LogFormat::default(),
        }
    }
}

impl Section for TelemetrySettings {
    const NAME: &'static str = "telemetry";
}

/// What is logged: a level, or a level per part of the program, like `info,pipeline=debug`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFilter(String);

impl Default for LogFilter {
    fn default() -> Self {
        // librdkafka and sqlx tell a lot that only their developers want to know.
        Self("info,sqlx=warn,librdkafka=warn,hyper=warn,tower=warn".to_owned())
    }
}

impl TryFrom<String> for LogFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.parse::<EnvFilter>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(format!(
                "expected a log filter like \"info\" or \"info,pipeline=debug\", not {text:?}"
            )),
        }
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.0
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a process cannot tell of itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Logging was set up before in this process.
    #[error("logging was set up twice: {0}")]
    Logging(String),
    /// A metric cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The address for metrics cannot be listened on.
    #[error("cannot listen on {address} ([telemetry] listen): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: std::io::Error,
    },
}

/// Sends log lines to standard error from now on.
///
/// # Errors
/// [`TelemetryError::Logging`] the second time in a process.
pub fn log(settings: &TelemetrySettings) -> Result<(), TelemetryError> {
    log_with(settings, std::io::stderr)
}

/// Sends log lines to a file from now on, for a command that has the terminal for itself.
///
/// # Errors
/// [`TelemetryError::Logging`] the second time in a process.
pub fn log_to(settings: &TelemetrySettings, file: std::fs::File) -> Result<(), TelemetryError> {
    log_with(settings, Arc::new(file))
}

fn log_with<W>(settings: &TelemetrySettings, writer: W) -> Result<(), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(&settings.log.0);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(writer);
    let done = match settings.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    done.map_err(|error| TelemetryError::Logging(error.to_string()))
}

/// A registry of metrics with the process's own in it: memory, processor time, open files.
///
/// # Errors
/// Never in practice: the registry is new.
pub fn metrics() -> Result<Registry, TelemetryError> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    Ok(registry)
}

/// Which parts of a process are ready. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, bool>>>);

impl Health {
    /// Adds a part, not ready yet: the process is ready when every part is.
    pub fn part(&self, name: impl Into<String>) -> Part {
        let part = Part {
            health: self.clone(),
            name: name.into(),
        };
        part.ready(false);
        part
    }

    /// The parts that are not ready; none when the process is.
    pub fn unready(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = parts.iter().filter(|(_, ready)| !**ready);
        parts.map(|(name, _)| name.clone()).collect()
    }
}

/// One part of a process, a stage for example.
#[derive(Clone)]
pub struct Part {
    health: Health,
    name: String,
}

impl Part {
    /// Says whether the part does its work now.
    pub fn ready(&self, ready: bool) {
        let mut parts = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(self.name.clone(), ready);
    }
}

/// The routes `/metrics`, `/live` and `/ready`, to be served alone or among others.
pub fn routes(metrics: Registry, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(render).with_state(metrics))
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready).with_state(health))
}

/// Serves [`routes`] until `stop`; gives the address it listens on.
///
/// # Errors
/// [`TelemetryError::Listen`] when the address is taken or not ours.
pub async fn serve(
    settings: &TelemetrySettings,
    routes: Router,
    stop: CancellationToken,
) -> Result<SocketAddr, TelemetryError> {
    let address = settings.listen;
    let failed = |cause| TelemetryError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "serving metrics and health");
    let server = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "metrics and health are served no more");
        }
    });
    Ok(address)
}

/// The trace id in a record's trace context, for the field `trace` of log lines and spans.
pub fn trace_id(context: &TraceContext) -> Option<&str> {
    // version-traceid-parentid-flags: https://www.w3.org/TR/trace-context/#traceparent-header
    let mut parts = context.traceparent.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let valid = version.len() == 2 && hex(version) && id.len() == 32 && hex(id);
    (valid && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

async fn render(State(metrics): State<Registry>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&metrics.gather(), &mut text) {
        Ok(()) => {
            let kind = encoder.format_type().to_owned();
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(health): State<Health>) -> Response {
    let unready = health.unready();
    if unready.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("not ready: {}\n", unready.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn a_process_tells_its_metrics_and_whether_it_is_alive_and_ready() {
        let settings = TelemetrySettings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..TelemetrySettings::default()
        };
        let (registry, health, stop) = (
            metrics().unwrap(),
            Health::default(),
            CancellationToken::new(),
        );
        let counter = prometheus::IntCounter::new("calls_seen_total", "Calls.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        let (one, two) = (health.part("insights"), health.part("coaching"));
        let routes = routes(registry, health);
        let address = serve(&settings, routes, stop.clone()).await.unwrap();

        let (status, text) = fetch(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("\ncalls_seen_total 3\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
        one.ready(true);
        assert_eq!(
            fetch(address, "/ready").await,
            (503, "not ready: coaching\n".into())
        );
        two.ready(true);
        assert_eq!(fetch(address, "/ready").await, (200, "ready\n".into()));
        assert_eq!(fetch(address, "/live").await, (200, "live\n".into()));

        let taken = TelemetrySettings {
            listen: address,
            ..settings
        };
        let error = serve(&taken, Router::new(), stop.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        stop.cancel();
    }

    #[test]
    fn a_trace_id_is_read_only_from_a_valid_trace_context() {
        let id = |text: &str| {
            let context = TraceContext {
                traceparent: text.to_owned(),
            };
            trace_id(&context).map(str::to_owned)
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(id(good).unwrap(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(id(""), None);
        assert_eq!(id("00-4bf9-00f067aa0ba902b7-01"), None);
        assert_eq!(id(&good.replace(|c: char| c != '-', "0")), None);
    }

    #[test]
    fn a_log_filter_is_judged_when_it_is_read() {
        assert!(LogFilter::try_from("info,pipeline=debug".to_owned()).is_ok());
        assert!(LogFilter::try_from("info,pipeline=loud".to_owned()).is_err());
    }
}
