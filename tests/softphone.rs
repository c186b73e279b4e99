//! The softphone panel in a real Chromium, against a gateway on librdkafka's in-process cluster.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use consumers::gateway::{Gateway, Settings, mint_token};
use harness::{Browser, chromium, eventually};
use pipeline::config::DatabaseUrl;
use pipeline::database::{self, DatabaseSettings};
use pipeline::reader::{From, Replayed};
use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::telemetry::Health;
use pipeline::{
    Decoder, Delivery, Deps, Field, Kafka, Producer, Reader, Sealer, Secret, TraceContext,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use schemas::{
    Action, AnyEvent, Body, Codec, Conversation, EndReason, Ended, Event, EventId, Feedback, Head,
    Insight, Item, Language, Objection, ObjectionKind, ObjectionOutcome, Sentiment, SentimentLabel,
    Speaker, Started, Tip, Utterance, topics,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "a secret of thirty-two bytes, not a real one";
const WITHIN: Duration = Duration::from_secs(20);
const CALL: &str = "call-1";
const SAY: &str = "It comes to about two dollars a day.";

/// A gateway on an in-process cluster, and a producer of events.
struct Stand {
    address: String,
    kafka: Kafka,
    codec: Arc<Codec>,
    sealer: Sealer,
    producer: Producer,
    stop: CancellationToken,
    gateway: JoinHandle<()>,
    _cluster: MockCluster<'static, DefaultProducerContext>,
    _folder: tempfile::TempDir,
}

impl Stand {
    async fn start() -> Self {
        Self::framed_by(Vec::new()).await
    }

    /// A gateway whose panel pages of these origins may show in a frame.
    async fn framed_by(frame_ancestors: Vec<String>) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in topics::ALL {
            cluster.create_topic(topic.name, 3, 1).unwrap();
        }
        let kafka = Kafka {
            bootstrap: cluster.bootstrap_servers(),
            delivery: Delivery::AtLeastOnce,
            ..Kafka::default()
        };
        let codec = Arc::new(Codec::new().unwrap());
        let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
        let sealer = Sealer::new(master, MemoryKeys::default());
        let folder = tempfile::tempdir().unwrap();
        let database = DatabaseSettings {
            url: DatabaseUrl::new(format!(
                "sqlite:{}",
                folder.path().join("coach.db").display()
            )),
            ..DatabaseSettings::default()
        };
        let deps = Deps {
            codec: Arc::clone(&codec),
            registry: None,
            sealer: sealer.clone(),
            cache: PathBuf::new(),
            health: Health::default(),
            metrics: prometheus::Registry::new(),
            database: database::connect(&database).await.unwrap(),
        };
        let settings = Settings {
            listen: ([127, 0, 0, 1], 0).into(),
            token_secret: Secret::new(SECRET),
            frame_ancestors,
            ..Settings::default()
        };
        let stop = CancellationToken::new();
        let gateway = Gateway::open(settings, deps, kafka.clone(), stop.clone());
        let gateway = gateway.await.unwrap();
        Self {
            address: format!("http://{}", gateway.address()),
            producer: Producer::new(&kafka, Arc::clone(&codec)).unwrap(),
            gateway: tokio::spawn(async move { gateway.run().await.unwrap() }),
            kafka,
            codec,
            sealer,
            stop,
            _cluster: cluster,
            _folder: folder,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.gateway.await.unwrap();
    }

    async fn send<T: Item>(&self, name: &str, body: Body<T>) -> EventId {
        let event = Event {
            head: Head {
                event_id: EventId::derive("test", name, 0),
                call_id: CALL.into(),
                tenant: "acme".into(),
                time: now(),
            },
            body,
        };
        self.producer
            .send(&event, &TraceContext::default())
            .await
            .unwrap();
        event.head.event_id
    }

    /// Waits until the gateway has read what there is, as an operator's probe does.
    async fn ready(&self) {
        let url = format!("{}/ready", self.address);
        eventually(WITHIN, "the gateway is ready", async || {
            reqwest::get(&url)
                .await
                .ok()?
                .status()
                .is_success()
                .then_some(())
        })
        .await;
    }

    async fn start_call(&self) {
        let started = Started {
            rep: "ana".into(),
            customer: None,
            language: "en".into(),
            source: "test".into(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            started_at: now() - 65_000,
        };
        // As the stages do: every topic of a call begins with its start.
        self.send::<Utterance>("start", Body::Started(started.clone()))
            .await;
        self.send::<Insight>("start found", Body::Started(started.clone()))
            .await;
        self.send::<Tip>("start tips", Body::Started(started)).await;
    }

    async fn say(&self, name: &str, start_ms: i64, text: &str) -> EventId {
        let key = self.sealer.create("acme", CALL).await.unwrap();
        let utterance = Utterance {
            channel: 1,
            speaker: Speaker::Customer,
            start_ms,
            end_ms: start_ms + 2000,
            language: Language::En,
            words: 4,
            text: key.seal(Field::TEXT, text.as_bytes()).unwrap(),
        };
        self.send(name, Body::Item(utterance)).await
    }

    async fn find(&self, utterance_id: EventId, kind: ObjectionKind) {
        let insight = Insight {
            utterance_id,
            channel: 1,
            speaker: Speaker::Customer,
            start_ms: 0,
            end_ms: 2000,
            language: Language::En,
            words: 4,
            sentiment: Sentiment {
                label: SentimentLabel::Negative,
                score: 0.75,
                polarity: -0.5,
            },
            objections: vec![Objection { kind, score: 0.75 }],
            next_step: false,
            interest: false,
            conversation: Conversation::default(),
        };
        self.send("insight", Body::Item(insight)).await;
    }

    async fn tip(&self, name: &str, utterance: EventId, say: &str) -> EventId {
        let tip = Tip {
            utterance_id: Some(utterance),
            rule: "price".into(),
            playbook: "default".into(),
            playbook_version: "1.0.0".into(),
            objection: Some(ObjectionKind::Price),
            title: "Turn the price into a cost a day".into(),
            say: say.into(),
            ask: "What does a lost customer cost you?".into(),
            language: Language::En,
            priority: 2,
            spoken_at: now(),
            expires_at: now() + 120_000,
        };
        self.send(name, Body::Item(tip)).await
    }

    async fn end_call(&self) {
        let ended = Ended {
            reason: EndReason::Hangup,
            duration_ms: 192_000,
            utterances: Some(2),
            transcribed_ms: None,
            conversation: Some(Conversation {
                talk_ratio: 0.5,
                ..Conversation::default()
            }),
            objections: Some(vec![ObjectionOutcome {
                kind: ObjectionKind::Price,
                raised: 2,
                answered: true,
            }]),
            next_step: Some(true),
        };
        self.send::<Utterance>("end", Body::Ended(ended)).await;
    }

    /// Feedback in its topic, once there are so many.
    async fn feedback(&self, wanted: usize) -> Vec<Event<Feedback>> {
        let decoder = Decoder::new(Arc::clone(&self.codec), None);
        let reader = Reader::open(
            &self.kafka,
            decoder,
            &[topics::COACHING_FEEDBACK],
            From::Beginning,
            Replayed::Read,
        );
        let mut reader = reader.await.unwrap();
        let mut found = Vec::new();
        while found.len() < wanted {
            let next = tokio::time::timeout(WITHIN, reader.next()).await;
            let next = next.unwrap_or_else(|_| panic!("only {} of {wanted}", found.len()));
            if let AnyEvent::Feedback(event) = next.unwrap().event {
                found.push(event);
            }
        }
        found
    }

    /// The address of the panel for a rep; the token is in the fragment.
    fn panel(&self, tenant: &str, rep: &str) -> String {
        let token = mint_token(SECRET, tenant, rep, Duration::from_secs(600)).unwrap();
        format!("{}/#token={token}", self.address)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// What a script says of the page.
async fn ask(browser: &Browser, script: &str) -> Value {
    let answer = browser.execute(script, Vec::new()).await.unwrap();
    answer.json().clone()
}

/// Waits until a script's answer is true.
async fn see(browser: &Browser, what: &str, script: &str) {
    let script = format!("return Boolean({script})");
    eventually(WITHIN, what, async || {
        (ask(browser, &script).await == true).then_some(())
    })
    .await;
}

async fn press(browser: &Browser, key: &str) {
    browser
        .action_chain()
        .send_keys(key)
        .perform()
        .await
        .unwrap();
}

const TIP_SHOWN: &str = "document.querySelector('#tip').checkVisibility()";
const TIP_GONE: &str = "!document.querySelector('#tip').checkVisibility()";

#[tokio::test(flavor = "multi_thread")]
async fn a_tip_appears_on_the_page_and_what_the_rep_does_with_it_lands_in_the_topic() {
    let Some(browser) = chromium().await else {
        return;
    };
    let stand = Stand::start().await;
    stand.start_call().await;
    let said = stand.say("first", 1000, "That is too expensive.").await;
    stand.ready().await;
    browser.goto(stand.panel("acme", "ana")).await.unwrap();
    let words = "document.querySelector('#utterances').textContent.includes('too expensive')";
    see(&browser, "the transcript", words).await;
    assert_eq!(
        ask(&browser, "return location.hash").await,
        "",
        "the token is out of the address"
    );
    assert_eq!(
        ask(&browser, "return document.cookie").await,
        "",
        "no script reads the cookie"
    );

    stand.find(said, ObjectionKind::Price).await;
    let tip = stand.tip("tip", said, SAY).await;
    see(&browser, "the tip", TIP_SHOWN).await;
    let shown = format!("document.querySelector('#tip-say').textContent === {SAY:?}");
    see(&browser, "the line to say", &shown).await;
    let announced =
        format!("document.querySelector('[role=status]#announce').textContent.includes({SAY:?})");
    see(&browser, "the tip is announced", &announced).await;
    see(
        &browser,
        "the objection",
        "document.querySelector('#utterances li ul').textContent === 'Price'",
    )
    .await;
    let shown = stand.feedback(1).await.remove(0);
    press(&browser, "d").await;
    see(&browser, "the tip is gone", TIP_GONE).await;
    let dismissed = stand.feedback(2).await.remove(1);
    for (event, action) in [(&shown, Action::Shown), (&dismissed, Action::Dismissed)] {
        let Body::Item(feedback) = &event.body else {
            panic!("{event:?}");
        };
        assert_eq!((feedback.tip_id, feedback.action), (tip, action));
        assert_eq!(feedback.rep, "ana");
        assert_eq!((&*event.head.call_id, &*event.head.tenant), (CALL, "acme"));
    }

    let used = stand.tip("second tip", said, "We can start small.").await;
    see(&browser, "the second tip", TIP_SHOWN).await;
    stand.feedback(3).await;
    ask(&browser, "document.querySelector('#used').click()").await;
    let last = stand.feedback(4).await.remove(3);
    assert!(matches!(&last.body, Body::Item(f) if f.tip_id == used && f.action == Action::Used));
    stand.end_call().await;
    see(
        &browser,
        "the summary",
        "document.querySelector('#outcomes').textContent.includes('Answered')",
    )
    .await;
    browser.quit().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reloaded_page_knows_the_call_and_no_other_rep_sees_it() {
    let Some(browser) = chromium().await else {
        return;
    };
    let stand = Stand::start().await;
    stand.start_call().await;
    let said = stand.say("first", 1000, "That is too expensive.").await;
    stand.tip("tip", said, SAY).await;
    stand.ready().await;
    browser.goto(stand.panel("acme", "ana")).await.unwrap();
    see(&browser, "the tip", TIP_SHOWN).await;
    stand.feedback(1).await;
    press(&browser, "u").await;
    see(&browser, "the tip is gone", TIP_GONE).await;
    stand.feedback(2).await;
    stand.say("second", 5000, "Let me think about it.").await;
    let lines = "document.querySelectorAll('#utterances > li').length === 2";
    see(&browser, "what is said meanwhile", lines).await;

    browser.refresh().await.unwrap();
    see(&browser, "the call again", lines).await;
    see(
        &browser,
        "the tip among the earlier ones",
        "document.querySelector('#earlier-tips .used')",
    )
    .await;
    see(&browser, "it is not shown again", TIP_GONE).await;

    for (tenant, rep) in [("acme", "bob"), ("other", "ana")] {
        browser.goto("about:blank").await.unwrap();
        browser.goto(stand.panel(tenant, rep)).await.unwrap();
        see(
            &browser,
            "an idle panel",
            "document.body.dataset.state === 'waiting'",
        )
        .await;
        let text = ask(&browser, "return document.body.innerText").await;
        let text = text.as_str().unwrap();
        assert!(!text.contains("expensive") && !text.contains(SAY), "{text}");
    }
    browser.goto("about:blank").await.unwrap();
    browser
        .goto(&format!("{}/#token=nonsense", stand.address))
        .await
        .unwrap();
    see(
        &browser,
        "a locked panel",
        "document.body.dataset.state === 'locked'",
    )
    .await;
    browser.quit().await;
    stand.end().await;
}

/// A softphone: a page of another origin with the panel in a frame, 360 pixels wide.
async fn softphone(listener: TcpListener, panel: String) {
    let page = format!("<!doctype html><iframe width=360 height=640 src='{panel}'></iframe>");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    while let Ok((mut connection, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            // A browser also opens connections ahead that it may not use.
            if connection
                .read(&mut [0; 4096])
                .await
                .is_ok_and(|read| read > 0)
            {
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_fits_into_a_narrow_softphone() {
    let Some(browser) = chromium().await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let stand = Stand::framed_by(vec![origin.clone()]).await;
    stand.start_call().await;
    let long = "Donaudampfschifffahrtsgesellschaftskapitän ".repeat(4);
    let said = stand.say("first", 1000, long.trim()).await;
    stand.tip("tip", said, SAY).await;
    stand.ready().await;
    let page = tokio::spawn(softphone(listener, stand.panel("acme", "ana")));
    browser.goto(&origin).await.unwrap();
    browser.enter_frame(0).await.unwrap();
    see(&browser, "the framed tip", TIP_SHOWN).await;
    let widths = "const right = (element) => element.getBoundingClientRect().right; \
                  const all = [...document.querySelectorAll('body *')]; \
                  return [innerWidth, document.documentElement.clientWidth, \
                          document.documentElement.scrollWidth, \
                          Math.max(...all.filter((e) => e.checkVisibility()).map(right))]";
    let widths = ask(&browser, widths).await;
    let width = |index: usize| widths[index].as_f64().unwrap();
    assert_eq!(width(0), 360.0);
    assert!(width(2) <= width(1), "the page scrolls sideways: {widths}");
    assert!(width(3) <= width(1), "something sticks out: {widths}");
    page.abort();
    browser.quit().await;
    stand.end().await;
}
