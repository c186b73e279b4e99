//! Softphones: each shows one rep's call, tells that it showed a tip, and comes back to whichever
//! gateway is ready when its own goes away.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consumers::gateway::mint_token;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::Shown;
use crate::stand::{TENANT, TOKEN_SECRET, rep};

/// A gateway of which nothing is heard for so long is gone; its heartbeat is 2 s.
const SILENT: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);

/// From losing a gateway to seeing the call go on at one.
#[derive(Clone, Copy, Debug)]
pub struct Reconnection {
    pub lost: Instant,
    pub live: Instant,
}

/// The softphones of a run.
pub struct Softphones {
    tasks: JoinSet<()>,
    shared: Vec<(String, Arc<Mutex<Screen>>)>,
    reconnections: Arc<Mutex<Vec<Reconnection>>>,
}

#[derive(Default)]
struct Screen {
    shown: Vec<Shown>,
    told: usize,
}

impl Softphones {
    /// Opens one for each call, turn by turn at the gateways.
    pub fn open(calls: &[String], gateways: &[String]) -> Self {
        let mut phones = Self {
            tasks: JoinSet::new(),
            shared: Vec::new(),
            reconnections: Arc::default(),
        };
        for (number, call) in calls.iter().enumerate() {
            let screen: Arc<Mutex<Screen>> = Arc::default();
            phones.shared.push((call.clone(), Arc::clone(&screen)));
            let phone = Softphone {
                token: mint_token(TOKEN_SECRET, TENANT, &rep(call), HOUR).unwrap(),
                gateways: gateways.to_vec(),
                at: number,
                client: reqwest::Client::builder()
                    .read_timeout(SILENT)
                    .build()
                    .unwrap(),
                screen,
                reconnections: Arc::clone(&phones.reconnections),
            };
            phones.tasks.spawn(phone.listen());
        }
        phones
    }

    /// Tips that came, and feedback that was taken, over all.
    pub fn counts(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for (_, screen) in &self.shared {
            let screen = lock(screen);
            counts.0 += screen.shown.len();
            counts.1 += screen.told;
        }
        counts
    }

    /// Closes them; what came to each, by call, and how they came back.
    pub fn close(mut self) -> (Vec<(String, Vec<Shown>)>, Vec<Reconnection>) {
        self.tasks.abort_all();
        let shared = self.shared.into_iter();
        let screens = shared.map(|(call, screen)| (call, lock(&screen).shown.clone()));
        (screens.collect(), lock(&self.reconnections).clone())
    }
}

struct Softphone {
    token: String,
    gateways: Vec<String>,
    /// Which gateway it is at, counted on and on.
    at: usize,
    client: reqwest::Client,
    screen: Arc<Mutex<Screen>>,
    reconnections: Arc<Mutex<Vec<Reconnection>>>,
}

impl Softphone {
    async fn listen(mut self) {
        let (mut last_id, mut lost) = (None, None);
        let mut told = HashSet::new();
        let mut feedback = JoinSet::new();
        loop {
            let gateway = self.gateways[self.at % self.gateways.len()].clone();
            let connected = self.connect(&gateway, last_id.as_deref()).await;
            if let Some(response) = connected {
                let mut stream = response.bytes_stream();
                let mut text = Vec::new();
                while let Some(Ok(bytes)) = stream.next().await {
                    text.extend_from_slice(&bytes);
                    while let Some(event) = take_event(&mut text) {
                        if event.id.is_some() {
                            last_id = event.id;
                        }
                        match event.name.as_str() {
                            "live" => {
                                if let Some(lost) = lost.take() {
                                    let live = Instant::now();
                                    lock(&self.reconnections).push(Reconnection { lost, live });
                                }
                            }
                            "tip" => {
                                let tip = self.show(&event.data, last_id.as_deref());
                                if told.insert(tip.clone()) {
                                    feedback.spawn(self.tell(tip));
                                }
                            }
                            _ => {}
                        }
                    }
                }
                lost.get_or_insert_with(Instant::now);
            }
            self.at += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// As whatever stands before gateways does: only one that is ready is given a softphone.
    async fn connect(&self, gateway: &str, last_id: Option<&str>) -> Option<reqwest::Response> {
        let ready = self.client.get(format!("http://{gateway}/ready")).send();
        if !ready.await.ok()?.status().is_success() {
            return None;
        }
        let mut request = self
            .client
            .get(format!("http://{gateway}/v1/events"))
            .bearer_auth(&self.token);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.ok()?;
        response.status().is_success().then_some(response)
    }

    fn show(&self, data: &str, id: Option<&str>) -> String {
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        let tip = data["id"].as_str().unwrap().to_owned();
        // The id of a server-sent event begins with its call.
        let call = id.and_then(|id| id.rsplit_once('~')).map(|(call, _)| call);
        lock(&self.screen).shown.push(Shown {
            call: call.unwrap_or_default().to_owned(),
            id: tip.clone(),
        });
        tip
    }

    /// Tells that a tip was shown, until it is taken.
    fn tell(&self, tip: String) -> impl Future<Output = ()> + Send + 'static {
        let (client, token) = (self.client.clone(), self.token.clone());
        let (gateways, mut at) = (self.gateways.clone(), self.at);
        let screen = Arc::clone(&self.screen);
        async move {
            loop {
                let gateway = &gateways[at % gateways.len()];
                let sent = client
                    .post(format!("http://{gateway}/v1/tips/{tip}/feedback"))
                    .bearer_auth(&token)
                    .json(&serde_json::json!({"action": "shown"}))
                    .send();
                if sent.await.is_ok_and(|answer| answer.status().is_success()) {
                    lock(&screen).told += 1;
                    return;
                }
                at += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct SentEvent {
    name: String,
    id: Option<String>,
    data: String,
}

/// Takes the first whole event out of what has arrived.
fn take_event(arrived: &mut Vec<u8>) -> Option<SentEvent> {
    let end = arrived.windows(2).position(|pair| pair == b"\n\n")?;
    let bytes: Vec<u8> = arrived.drain(..end + 2).collect();
    let text = String::from_utf8(bytes).unwrap();
    let mut event = SentEvent::default();
    for line in text.lines() {
        match line.split_once(": ").or_else(|| line.split_once(':')) {
            Some(("event", name)) => event.name = name.to_owned(),
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("data", data)) => event.data.push_str(data),
            _ => {}
        }
    }
    Some(event)
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_once_it_is_whole() {
        let mut arrived = b"event: tip\ndata: {\"id\"".to_vec();
        assert_eq!(take_event(&mut arrived), None);
        arrived.extend_from_slice(b":1}\nid: call~1\n\n:\n\nevent");
        let tip = SentEvent {
            name: "tip".into(),
            id: Some("call~1".into()),
            data: "{\"id\":1}".into(),
        };
        assert_eq!(take_event(&mut arrived), Some(tip));
        assert_eq!(take_event(&mut arrived), Some(SentEvent::default()));
        assert_eq!(take_event(&mut arrived), None);
    }
}
