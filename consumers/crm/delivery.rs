//! One delivery: notes on their way to a CRM, batch by batch, until each is written, refused for
//! good, or parked.

use std::collections::VecDeque;
use std::time::Duration;

use pipeline::{StageError, clock};
use tokio::time::Instant;

use super::breaker::jittered;
use super::client::{Record, Trouble};
use super::connection::{Connection, Fate, Item, Stop, ms, stop_sending};
use super::desk::Desk;
use crate::masking;

/// First pause before a note's next try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest a parked note waits for its next try.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// One delivery: what is still to be sent, and what became of the rest.
pub(super) struct Delivery<'a> {
    desk: &'a Desk,
    connection: &'a Connection,
    deadline: Instant,
    queue: VecDeque<Vec<Item>>,
    tries: u32,
    done: Vec<(Item, Fate)>,
}

impl<'a> Delivery<'a> {
    /// These notes, in batches as large as the CRM takes them, tried for so long.
    pub(super) fn new(
        desk: &'a Desk,
        connection: &'a Connection,
        mut items: Vec<Item>,
        patience: Duration,
    ) -> Self {
        let mut queue = VecDeque::new();
        while !items.is_empty() {
            let rest = items.split_off(items.len().min(connection.client.batch()));
            queue.push_back(items);
            items = rest;
        }
        Self {
            desk,
            connection,
            deadline: Instant::now() + patience,
            queue,
            tries: 0,
            done: Vec::new(),
        }
    }

    /// Sends them, unless something stops that already; gives what became of each.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn run(mut self, stop: Option<Stop>) -> Result<Vec<(Item, Fate)>, StageError> {
        if let Some(stop) = stop {
            self.park_rest(&stop);
        }
        while let Some(batch) = self.queue.pop_front() {
            if let Some(stop) = self.send(batch).await? {
                self.park_rest(&stop);
            }
        }
        Ok(self.done)
    }

    /// Sends a batch. What is not done with is queued again; a stop holds for all that is queued.
    async fn send(&mut self, mut batch: Vec<Item>) -> Result<Option<Stop>, StageError> {
        if Instant::now() >= self.deadline {
            self.queue.push_front(batch);
            return Ok(Some(busy(Duration::ZERO)));
        }
        for item in &mut batch {
            item.attempts += 1;
        }
        let drafts: Vec<_> = batch
            .iter()
            .map(|item| item.prepared.draft.clone())
            .collect();
        let client = &self.connection.client;
        let answers = tokio::time::timeout_at(self.deadline, client.write(&drafts)).await;
        let breaker = &self.connection.breaker;
        match answers {
            Err(_) => {
                breaker.hung(Instant::now());
                self.queue.push_front(batch);
                Ok(Some(self.down()))
            }
            Ok(Ok(answers)) => {
                breaker.succeeded();
                self.take(batch, answers).await
            }
            Ok(Err(Trouble::Refused { all: false, .. })) if batch.len() > 1 => {
                breaker.succeeded();
                // One of them is refused, and HubSpot does not say which.
                let rest = batch.split_off(batch.len() / 2);
                self.queue.push_front(rest);
                self.queue.push_front(batch);
                Ok(None)
            }
            Ok(Err(trouble)) => {
                if matches!(trouble, Trouble::Later { .. }) && breaker.failed(Instant::now()) {
                    self.queue.push_front(batch);
                    return Ok(Some(self.down()));
                }
                let answers = batch.iter().map(|_| Err(trouble.clone())).collect();
                self.take(batch, answers).await
            }
        }
    }

    /// Takes in what became of each note of a batch.
    async fn take(
        &mut self,
        batch: Vec<Item>,
        answers: Vec<Result<Record, Trouble>>,
    ) -> Result<Option<Stop>, StageError> {
        let (mut again, mut pause, mut stop) = (Vec::new(), Duration::ZERO, None);
        for (item, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(record) => {
                    let fate = Fate::Written {
                        record,
                        content: item.prepared.content.clone(),
                        attempts: item.attempts,
                    };
                    self.done.push((item, fate));
                }
                Err(Trouble::Refused { code, words, .. }) => {
                    let language = self.connection.tenant.language;
                    let fate = Fate::Failed {
                        code,
                        words: masking::mask(&words, language).into_owned(),
                        attempts: item.attempts,
                    };
                    self.done.push((item, fate));
                }
                Err(trouble) => {
                    pause = pause.max(trouble.pause());
                    if stop.is_none() {
                        stop = self.stop_for(&trouble);
                    }
                    again.push(item);
                }
            }
        }
        if again.is_empty() {
            return Ok(None);
        }
        self.queue.push_front(again);
        if let Some((stop, words)) = stop {
            let connection = self.connection;
            let told = Some((&stop, words.as_str()));
            stop_sending(self.desk, &connection.tenant, connection.crm, told).await?;
            if stop.reason == "shut" {
                self.desk.reconnect(&connection.tenant.name, connection.crm);
            }
            return Ok(Some(stop));
        }
        let backoff = jittered(FIRST_PAUSE * 2_u32.saturating_pow(self.tries.min(10)));
        self.tries += 1;
        let until = Instant::now() + pause.max(backoff);
        if until >= self.deadline {
            return Ok(Some(busy(pause)));
        }
        tokio::time::sleep_until(until).await;
        Ok(None)
    }

    /// The stop that a trouble asks for, if any, with the CRM's own words.
    fn stop_for(&self, trouble: &Trouble) -> Option<(Stop, String)> {
        let settings = &self.desk.settings;
        let (reason, wait, words) = match trouble {
            Trouble::Daily { words, after } => {
                ("daily", after.unwrap_or(settings.daily), words.clone())
            }
            Trouble::Shut { .. } => ("shut", settings.shut, trouble.to_string()),
            _ => return None,
        };
        let stop = Stop {
            reason: reason.to_owned(),
            until: clock::now() + ms(wait),
        };
        Some((stop, words))
    }

    fn down(&self) -> Stop {
        let open = self.connection.breaker.open(Instant::now());
        Stop {
            reason: "down".to_owned(),
            until: clock::now() + open.map_or(0, ms),
        }
    }

    /// Parks all that is queued: until the stop is over, those parked again and again longer.
    fn park_rest(&mut self, stop: &Stop) {
        let retry = self.desk.settings.retry;
        for item in self.queue.drain(..).flatten() {
            let times = u32::try_from(item.job.times).unwrap_or(0).min(16);
            let own = (retry * 2_u32.saturating_pow(times)).min(LONGEST_WAIT);
            let own = clock::now() + ms(jittered(own));
            let own = if stop.reason == "busy" {
                own
            } else {
                stop.until
            };
            let fate = Fate::Parked {
                reason: stop.reason.clone(),
                until: own.max(stop.until),
                attempts: item.attempts,
            };
            self.done.push((item, fate));
        }
    }
}

/// Too long for now: the rest waits its turn.
fn busy(pause: Duration) -> Stop {
    Stop {
        reason: "busy".to_owned(),
        until: clock::now() + ms(pause),
    }
}

impl Trouble {
    /// How long the CRM asked to wait.
    fn pause(&self) -> Duration {
        match self {
            Self::TooFast(pause) => *pause,
            Self::Later { after, .. } => after.unwrap_or_default(),
            Self::Refused { .. } | Self::Daily { .. } | Self::Shut { .. } => Duration::ZERO,
        }
    }
}
