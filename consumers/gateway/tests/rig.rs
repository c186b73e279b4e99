//! A gateway without Kafka: events are put in by hand, and a client reads its answers over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use futures::future::{BoxFuture, FutureExt, ready};
use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::{Envelope, Field, Origin, Sealer, Secret, TraceContext};
use prometheus::Registry;
use reqwest::Response;
use schemas::{
    AnyEvent, Body, Conversation, EndReason, Ended, Event, EventId, Feedback, Head, Insight,
    Language, Objection, ObjectionKind, Sentiment, SentimentLabel, Speaker, Started, Tip,
    Utterance,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::feedback::Outlet;
use pipeline::clock;

use super::super::{Settings, Shared, listen, mint_token, router};

pub const SECRET: &str = "a secret of thirty-two bytes, not a real one";
pub const WITHIN: Duration = Duration::from_secs(10);

/// Keeps feedback instead of writing it; `None` is Kafka out of reach.
#[derive(Clone)]
pub struct Kept(pub Arc<Mutex<Option<Vec<Event<Feedback>>>>>);

impl Outlet for Kept {
    fn write<'a>(&'a self, event: &'a Event<Feedback>) -> BoxFuture<'a, bool> {
        let mut kept = self.0.lock().unwrap();
        let taken = kept.as_mut().map(|kept| kept.push(event.clone()));
        ready(taken.is_some()).boxed()
    }
}

/// A gateway, and a client of it.
pub struct Rig {
    pub address: SocketAddr,
    pub shared: Shared,
    pub sealer: Sealer,
    pub kept: Kept,
    pub http: reqwest::Client,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        Self::sharing(Sealer::new(master, MemoryKeys::default()), change).await
    }

    /// A second gateway of the same installation.
    pub async fn beside(&self) -> Self {
        Self::sharing(self.sealer.clone(), |_| {}).await
    }

    async fn sharing(sealer: Sealer, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token_secret: Secret::new(SECRET),
            ..Settings::default()
        };
        change(&mut settings);
        let kept = Kept(Arc::new(Mutex::new(Some(Vec::new()))));
        let (registry, stop) = (Registry::new(), CancellationToken::new());
        let shared = Shared::new(settings, &sealer, &registry, kept.clone(), stop.clone()).unwrap();
        let (listener, address) = listen(&shared.settings).await.unwrap();
        let router = router(&shared, Router::new());
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        tokio::spawn(server.into_future());
        Self {
            address,
            shared,
            sealer,
            kept,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A screen of `rep` of `tenant`.
    pub async fn screen(&self, tenant: &str, rep: &str) -> Stream {
        self.resume(tenant, rep, "").await
    }

    /// A screen that has seen everything up to the event of this id.
    pub async fn resume(&self, tenant: &str, rep: &str, id: &str) -> Stream {
        let mut request = self
            .http
            .get(self.url("/v1/events"))
            .bearer_auth(token(tenant, rep));
        if !id.is_empty() {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream {
            response,
            text: String::new(),
        }
    }

    pub async fn feedback(&self, rep: (&str, &str), tip: EventId, body: Value) -> (u16, Value) {
        let request = self
            .http
            .post(self.url(&format!("/v1/tips/{tip}/feedback")));
        let request = request.bearer_auth(token(rep.0, rep.1)).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    /// Takes a record in as if it had just come.
    pub fn take(&self, envelope: Envelope<AnyEvent>) {
        self.shared.take(envelope, true);
    }
}

pub fn token(tenant: &str, rep: &str) -> String {
    mint_token(SECRET, tenant, rep, Duration::from_secs(600)).unwrap()
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// A stream of server-sent events.
pub struct Stream {
    response: Response,
    text: String,
}

impl Stream {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (sent, rest) = (read(block), rest.to_owned());
                self.text = rest;
                match sent {
                    Some(sent) => return Some(sent),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(WITHIN, self.response.chunk());
            let chunk = chunk.await.expect("an event in time").ok()??;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    pub async fn expect(&mut self, name: &str) -> Sent {
        let sent = self.next().await.expect("the stream goes on");
        assert_eq!(sent.name, name, "{sent:?}");
        sent
    }

    /// Everything up to `live`.
    pub async fn backlog(&mut self) -> Vec<Sent> {
        let mut backlog = Vec::new();
        loop {
            match self.next().await.expect("the stream goes on") {
                sent if sent.name == "live" => return backlog,
                sent => backlog.push(sent),
            }
        }
    }

    /// Names of everything up to `live`.
    pub async fn names(&mut self) -> Vec<String> {
        self.backlog()
            .await
            .into_iter()
            .map(|sent| sent.name)
            .collect()
    }
}

/// The event in a block of lines; `None` when it is only a comment.
fn read(block: &str) -> Option<Sent> {
    let field = |name: &str| {
        let mut fields = block.lines().filter_map(|line| line.split_once(": "));
        fields
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    Some(Sent {
        data: serde_json::from_str(&field("data")?).unwrap(),
        name: field("event").unwrap_or_default(),
        id: field("id").unwrap_or_default(),
    })
}

/// A call whose records are made as they are needed.
pub struct Call<'a> {
    pub rig: &'a Rig,
    pub tenant: &'static str,
    pub id: &'static str,
    pub started_at: i64,
}

impl<'a> Call<'a> {
    pub fn new(rig: &'a Rig, tenant: &'static str, id: &'static str) -> Self {
        Self {
            rig,
            tenant,
            id,
            started_at: clock::now() - 60_000,
        }
    }

    pub fn started(&self, rep: &str, offset: i64) -> Envelope<AnyEvent> {
        self.transcript(offset, Body::Started(self.start(rep)))
    }

    pub fn tips_started(&self, rep: &str, offset: i64) -> Envelope<AnyEvent> {
        let event = self.event("tips start", Body::Started(self.start(rep)));
        self.record(AnyEvent::Tip(event), "coaching.tips", offset)
    }

    fn start(&self, rep: &str) -> Started {
        Started {
            rep: rep.into(),
            customer: None,
            language: "auto".into(),
            source: "test".into(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            started_at: self.started_at,
        }
    }

    pub async fn said(&self, offset: i64, text: &str) -> Envelope<AnyEvent> {
        let key = self.rig.sealer.create(self.tenant, self.id).await.unwrap();
        let utterance = Utterance {
            channel: 1,
            speaker: Speaker::Customer,
            start_ms: offset * 1000,
            end_ms: offset * 1000 + 900,
            language: Language::Es,
            words: 3,
            text: key.seal(Field::TEXT, text.as_bytes()).unwrap(),
        };
        self.transcript(offset, Body::Item(utterance))
    }

    pub fn found(&self, offset: i64) -> Envelope<AnyEvent> {
        let insight = Insight {
            utterance_id: EventId::derive("test", &format!("{}{offset}", self.id), 0),
            channel: 1,
            speaker: Speaker::Customer,
            start_ms: 0,
            end_ms: 900,
            language: Language::Es,
            words: 3,
            sentiment: Sentiment {
                label: SentimentLabel::Negative,
                score: 0.75,
                polarity: -0.5,
            },
            objections: vec![Objection {
                kind: ObjectionKind::Price,
                score: 0.75,
            }],
            next_step: false,
            interest: false,
            conversation: Conversation::default(),
        };
        let event = self.event(&format!("insight{offset}"), Body::Item(insight));
        self.record(AnyEvent::Insight(event), "calls.insights", offset)
    }

    /// A tip good for `left` milliseconds from now, and its id.
    pub fn tip(&self, offset: i64, left: i64) -> (EventId, Envelope<AnyEvent>) {
        let tip = Tip {
            utterance_id: None,
            rule: "price".into(),
            playbook: "default".into(),
            playbook_version: "1".into(),
            objection: Some(ObjectionKind::Price),
            title: "Valor".into(),
            say: "Diga".into(),
            ask: "¿Pregunte?".into(),
            language: Language::Es,
            priority: 2,
            spoken_at: clock::now() - 1000,
            expires_at: clock::now() + left,
        };
        let event = self.event(&format!("tip{offset}"), Body::Item(tip));
        let id = event.head.event_id;
        (
            id,
            self.record(AnyEvent::Tip(event), "coaching.tips", offset),
        )
    }

    pub fn did(&self, offset: i64, event: Event<Feedback>) -> Envelope<AnyEvent> {
        self.record(AnyEvent::Feedback(event), "coaching.feedback", offset)
    }

    pub fn ended(&self, offset: i64) -> Envelope<AnyEvent> {
        self.transcript(offset, Body::Ended(end()))
    }

    pub fn tips_ended(&self, offset: i64) -> Envelope<AnyEvent> {
        let ended = Ended {
            objections: Some(Vec::new()),
            utterances: None,
            ..end()
        };
        let event = self.event("tips end", Body::Ended(ended));
        self.record(AnyEvent::Tip(event), "coaching.tips", offset)
    }

    fn transcript(&self, offset: i64, body: Body<Utterance>) -> Envelope<AnyEvent> {
        let event = self.event(&format!("transcript{offset}"), body);
        self.record(AnyEvent::Transcript(event), "calls.transcript", offset)
    }

    fn event<T>(&self, name: &str, body: Body<T>) -> Event<T> {
        Event {
            head: Head {
                event_id: EventId::derive("test", &format!("{}{name}", self.id), 0),
                call_id: self.id.into(),
                tenant: self.tenant.into(),
                time: clock::now(),
            },
            body,
        }
    }

    fn record(&self, event: AnyEvent, topic: &str, offset: i64) -> Envelope<AnyEvent> {
        Envelope {
            event,
            origin: Origin {
                topic: topic.into(),
                partition: 0,
                offset,
            },
            timestamp: clock::now(),
            trace: TraceContext::default(),
            rebuilding: false,
        }
    }
}

fn end() -> Ended {
    Ended {
        reason: EndReason::Hangup,
        duration_ms: 61_000,
        utterances: Some(7),
        transcribed_ms: None,
        conversation: None,
        objections: None,
        next_step: None,
    }
}

pub fn action(action: &str) -> Value {
    json!({ "action": action })
}
