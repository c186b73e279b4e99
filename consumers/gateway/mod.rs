//! The gateway: what reps, their softphones and data teams reach over HTTP.
//!
//! It reads the calls' topics without a consumer group, so every gateway sees every call, and a
//! rep may be connected to any of them. It keeps nothing on disk: after a start it reads back far
//! enough to know the open calls.
//!
//! | address | gives |
//! |---|---|
//! | `GET /` | the softphone panel |
//! | `GET /v1/events` | the rep's current call as server-sent events: `screen` |
//! | `POST /v1/tips/{tip_id}/feedback` | takes what the rep did with a tip: `feedback` |
//! | `/v1/session` | a cookie for a token: `session` |
//! | `/schemas`, `/subjects` | the schemas, as a schema registry gives them: `schema_api` |
//! | `/live`, `/ready`, `/metrics` | how the process is |

mod call;
mod calls;
mod error;
mod feedback;
mod frame;
mod metrics;
mod page;
mod patience;
mod position;
mod schema_api;
mod screen;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use pipeline::clock;
use pipeline::reader::{From, Replayed};
use pipeline::telemetry::{self, Part};
use pipeline::{
    Decoder, Deps, Effects, Envelope, Kafka, Producer, ReadError, Reader, Sealer, Section,
};
use prometheus::Registry;
use schemas::{AnyEvent, topics};
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use calls::{Calls, Outcome};
use error::ApiError;
use feedback::Outlet;
use metrics::Metrics;
use patience::Patient;
use screen::Screen;
use session::Asking;
pub use settings::Settings;
pub use token::{Claims, TokenError, Tokens, mint_token};

/// What it does beyond topics: reps see tips on their screens.
pub const EFFECTS: Effects = Effects::Outside;
/// What the gateway reads.
pub const TOPICS: &[schemas::Topic] = &[
    topics::CALLS_TRANSCRIPT,
    topics::CALLS_INSIGHTS,
    topics::COACHING_TIPS,
    topics::COACHING_FEEDBACK,
];
/// Largest request body: feedback and tokens are small.
const BODY_BYTES: usize = 16 * 1024;
/// How often the gateway looks after itself.
const TICK: Duration = Duration::from_millis(250);
/// How often it forgets stale calls, in ticks.
const SWEEP: u32 = 40;
/// How often Kafka is asked whether it is there, and how long it may take to answer.
const ASK_EVERY: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Why the gateway does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Everything that is wrong with the settings.
    #[error("gateway settings: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ([gateway] listen): {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: std::io::Error,
    },
    /// The topics cannot be read any more.
    #[error("gateway reads no more: {0}")]
    Read(#[from] ReadError),
    /// Feedback cannot be written.
    #[error("gateway writes no feedback: {0}")]
    Write(#[from] pipeline::ProduceError),
    /// Metrics of that name are registered already.
    #[error("gateway metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The server broke.
    #[error("gateway serves no more: {0}")]
    Serve(#[from] std::io::Error),
}

/// What every request may use.
#[derive(Clone)]
struct Shared(Arc<Parts>);

struct Parts {
    settings: Settings,
    tokens: Tokens,
    calls: Calls,
    sealer: Sealer,
    metrics: Metrics,
    outlet: Box<dyn Outlet>,
    stop: CancellationToken,
}

impl std::ops::Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Shared {
    fn new(
        settings: Settings,
        sealer: &Sealer,
        metrics: &Registry,
        outlet: impl Outlet,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let problems = settings.problems();
        let tokens = Tokens::new(settings.token_secret.reveal());
        let (Ok(tokens), true) = (tokens, problems.is_empty()) else {
            return Err(GatewayError::Settings(problems));
        };
        Ok(Self(Arc::new(Parts {
            calls: Calls::new(settings.limits()),
            sealer: sealer.clone(),
            metrics: Metrics::new(metrics)?,
            outlet: Box::new(outlet),
            tokens,
            settings,
            stop,
        })))
    }

    /// Takes one event in.
    fn take(&self, envelope: Envelope<AnyEvent>, live: bool) {
        match self.calls.take(envelope, clock::now(), live) {
            Outcome::Taken { cut_off } => self.metrics.screens_cut_off.inc_by(cut_off as u64),
            Outcome::Late => self.metrics.tips_late.inc(),
            Outcome::Skipped(reason) => self.metrics.skip(reason),
        }
    }

    /// Reads the topics for good; says every now and then whether the past has been read.
    async fn read(
        &self,
        reader: &mut Reader,
        caught_up: impl Fn(bool),
    ) -> Result<(), GatewayError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            let live = reader.caught_up();
            tokio::select! {
                next = reader.next() => match next {
                    Ok(envelope) => self.take(envelope, live),
                    Err(ReadError::Poison { origin, poison }) => {
                        tracing::warn!(?origin, reason = %poison.reason, "record left out of the screens");
                        self.metrics.skip("poison");
                    }
                    Err(ReadError::Replayed { .. }) => self.metrics.skip("replayed"),
                    Err(error) => return Err(error.into()),
                },
                _ = tick.tick() => {
                    caught_up(reader.caught_up());
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(SWEEP) {
                        self.calls.sweep(clock::now());
                    }
                    self.metrics.calls.set(i64::try_from(self.calls.open()).unwrap_or(i64::MAX));
                }
            }
        }
    }
}

/// A gateway that listens but does not serve yet.
pub struct Gateway {
    shared: Shared,
    listener: Patient,
    address: SocketAddr,
    router: Router,
    kafka: Kafka,
    deps: Deps,
    part: Part,
}

impl Gateway {
    /// Checks the settings and takes the address. The gateway stops when `stop` is cancelled.
    ///
    /// # Errors
    /// [`GatewayError::Settings`], [`GatewayError::Listen`].
    pub async fn open(
        settings: Settings,
        deps: Deps,
        kafka: Kafka,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let stop = stop.child_token();
        let producer = Producer::new(&kafka, Arc::clone(&deps.codec))?;
        let shared = Shared::new(settings, &deps.sealer, &deps.metrics, producer, stop)?;
        let part = deps.health.part(Settings::NAME);
        let telemetry = telemetry::routes(deps.metrics.clone(), deps.health.clone());
        let (listener, address) = listen(&shared.settings).await?;
        Ok(Self {
            router: router(&shared, telemetry),
            shared,
            listener,
            address,
            kafka,
            deps,
            part,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads and serves until it is stopped; open streams are ended first.
    ///
    /// # Errors
    /// [`GatewayError::Read`] and [`GatewayError::Serve`], which no waiting mends.
    pub async fn run(self) -> Result<(), GatewayError> {
        let stop = self.shared.stop.clone();
        let _stop_all = stop.clone().drop_guard();
        let lookback = i64::try_from(self.shared.settings.lookback.as_millis());
        let from = From::Time(clock::now().saturating_sub(lookback.unwrap_or(i64::MAX)));
        tracing::info!(address = %self.address, "serving softphones");
        let server = axum::serve(self.listener, self.router)
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let reachable = AtomicBool::new(false);
        let read = async {
            let decoder = Decoder::from(&self.deps);
            let mut reader =
                Reader::open(&self.kafka, decoder, TOPICS, from, Replayed::from(EFFECTS)).await?;
            let reading = self.shared.read(&mut reader, |caught_up| {
                self.part
                    .ready(caught_up && reachable.load(Ordering::Relaxed));
            });
            tokio::select! {
                ended = reading => ended,
                never = watch(&self.kafka, &reachable) => match never {},
            }
        };
        let read = async {
            let read = stop.run_until_cancelled(read).await;
            stop.cancel();
            read.unwrap_or(Ok(()))
        };
        let (read, served) = tokio::join!(read, server.into_future());
        self.part.ready(false);
        read?;
        Ok(served?)
    }
}

async fn listen(settings: &Settings) -> Result<(Patient, SocketAddr), GatewayError> {
    let address = settings.listen;
    let failed = |cause| GatewayError::Listen { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stalled = settings.stalled;
    Ok((Patient { listener, stalled }, address))
}

/// Asks Kafka every now and then whether it is there.
async fn watch(kafka: &Kafka, reachable: &AtomicBool) -> Infallible {
    loop {
        let answer = timeout(ANSWER_WITHIN, kafka.wait_until_reachable()).await;
        reachable.store(matches!(answer, Ok(Ok(()))), Ordering::Relaxed);
        sleep(ASK_EVERY).await;
    }
}

/// Everything the gateway answers.
fn router(shared: &Shared, telemetry: Router) -> Router {
    let api = Router::new()
        .route("/v1/events", get(events))
        .route("/v1/tips/{tip_id}/feedback", post(feedback::take))
        .layer(cors(&shared.settings));
    let session = get(session::show)
        .post(session::open)
        .delete(session::close);
    Router::new()
        .merge(api)
        .route("/v1/session", session)
        .merge(schema_api::routes())
        .fallback(get(page::file))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(shared.clone())
        .merge(telemetry)
        .layer(middleware::from_fn_with_state(
            page::SafeHeaders::new(&shared.settings),
            page::keep_safe,
        ))
}

/// Lets pages of other origins call the API, with a bearer token only.
fn cors(settings: &Settings) -> CorsLayer {
    let origins = settings.allowed_origins.iter();
    let origins: Vec<HeaderValue> = origins.filter_map(|origin| origin.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("last-event-id"),
        ])
}

/// `GET /v1/events`.
async fn events(
    State(shared): State<Shared>,
    asking: Asking,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let resume = headers
        .get("last-event-id")
        .and_then(|id| std::str::from_utf8(id.as_bytes()).ok())
        .and_then(|id| id.parse().ok());
    let subscription = shared
        .calls
        .watch(&asking.rep(), resume, clock::now())
        .map_err(ApiError::TooManyScreens)?;
    let screen = Screen {
        subscription,
        sealer: shared.sealer.clone(),
        metrics: shared.metrics.clone(),
        until: Instant::now() + asking.left(),
        stop: shared.stop.clone(),
    };
    let heartbeat = KeepAlive::new().interval(shared.settings.heartbeat);
    Ok(Sse::new(screen.events())
        .keep_alive(heartbeat)
        .into_response())
}
