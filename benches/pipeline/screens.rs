//! Reps' screens: server-sent events as a softphone gets them, each tip stamped when it comes.

use std::time::Duration;

use futures::StreamExt;
use schemas::EventId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::Result;
use crate::chain::Chain;

/// A tip as it came to a screen.
pub struct Seen {
    pub rep: String,
    pub utterance_id: EventId,
    pub spoken_at: i64,
    pub at: Instant,
}

/// Open screens.
pub struct Screens {
    tasks: JoinSet<()>,
    sender: mpsc::UnboundedSender<Seen>,
    receiver: mpsc::UnboundedReceiver<Seen>,
}

impl Default for Screens {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            tasks: JoinSet::new(),
            sender,
            receiver,
        }
    }
}

impl Screens {
    /// Opens a rep's screen.
    pub async fn watch(&mut self, chain: &Chain, rep: &str) -> Result<()> {
        let response = reqwest::Client::new()
            .get(format!("http://{}/v1/events", chain.gateway))
            .bearer_auth(chain.token(rep)?)
            .send()
            .await?
            .error_for_status()?;
        let (sender, rep) = (self.sender.clone(), rep.to_owned());
        self.tasks.spawn(async move {
            let mut stream = response.bytes_stream();
            let mut text = String::new();
            while let Some(Ok(bytes)) = stream.next().await {
                let at = Instant::now();
                text.push_str(&String::from_utf8_lossy(&bytes));
                while let Some(end) = text.find("\n\n") {
                    let event: String = text.drain(..end + 2).collect();
                    if let Some(seen) = tip(&event, &rep, at) {
                        let _ = sender.send(seen);
                    }
                }
            }
        });
        Ok(())
    }

    /// Waits until no tip has come for a while, at most `late`, and gives what was seen.
    pub async fn close(mut self, late: Duration) -> Vec<Seen> {
        let deadline = Instant::now() + late;
        let quiet = Duration::from_secs(3);
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            match timeout(quiet, self.receiver.recv()).await {
                Ok(Some(tip)) => seen.push(tip),
                _ => break,
            }
        }
        self.tasks.abort_all();
        seen
    }
}

/// The tip in a server-sent event, if it is one.
fn tip(event: &str, rep: &str, at: Instant) -> Option<Seen> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
    if field("event:")?.trim() != "tip" {
        return None;
    }
    let data: serde_json::Value = serde_json::from_str(field("data:")?).ok()?;
    Some(Seen {
        rep: rep.to_owned(),
        utterance_id: data["utterance_id"].as_str()?.parse().ok()?,
        spoken_at: data["spoken_at"].as_i64()?,
        at,
    })
}
