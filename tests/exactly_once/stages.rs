//! A stage whose output tells what it remembers, and a sink that keeps what it got.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipeline::envelope::Input;
use pipeline::{Deps, Effects, Envelope, Outbox, Poison, Sink, Stage, StageError};
use schemas::{
    AnyEvent, Body, Conversation, EventId, Insight, Sentiment, SentimentLabel, Topic, Utterance,
    topics,
};

/// Counts a call's utterances and folds their texts into a checksum; both are in every insight.
#[derive(Default)]
pub struct Counter {
    tries: Mutex<HashMap<EventId, u32>>,
}

/// What [`Counter`] remembers of a call.
#[derive(Debug, Default)]
pub struct Memory {
    count: i32,
    checksum: i64,
}

impl Counter {
    /// Does what the text says: `poison`, `panic`, `slow 5` (milliseconds), `flaky 3` (tries that fail).
    async fn obey(&self, id: EventId, text: &str) -> Result<(), StageError> {
        let (word, number) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "poison" => Err(Poison::new("test", "the text says so").into()),
            "panic" => panic!("the text says so"),
            "slow" => {
                tokio::time::sleep(Duration::from_millis(number.parse().unwrap())).await;
                Ok(())
            }
            "flaky" => {
                let tries = {
                    let mut tries = self.tries.lock().unwrap();
                    let tries = tries.entry(id).or_default();
                    *tries += 1;
                    *tries
                };
                if tries <= number.parse::<u32>().unwrap() {
                    return Err(StageError::transient(std::io::Error::other("not yet")));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Stage for Counter {
    const NAME: &'static str = "counter";
    const EFFECTS: Effects = Effects::Topic;
    type In = Utterance;
    type Out = Insight;
    type Settings = ();
    type Call = Memory;

    async fn open((): (), _: &Deps) -> anyhow::Result<Self> {
        Ok(Self::default())
    }

    async fn process(
        &self,
        call: &mut Memory,
        input: &Input<Utterance>,
        out: &mut Outbox<Insight>,
    ) -> Result<(), StageError> {
        match &input.event.body {
            Body::Started(started) => {
                out.emit(Body::Started(started.clone()));
            }
            Body::Ended(ended) => {
                let mut ended = ended.clone();
                ended.utterances = Some(call.count);
                ended.transcribed_ms = Some(call.checksum);
                out.emit(Body::Ended(ended));
            }
            Body::Item(utterance) => {
                let text = std::str::from_utf8(&utterance.text.0).unwrap();
                self.obey(input.event.head.event_id, text).await?;
                call.count += 1;
                for byte in &utterance.text.0 {
                    call.checksum = (call.checksum * 31 + i64::from(*byte)) % 1_000_000_007;
                }
                out.emit(Body::Item(insight(input, utterance, call)));
            }
        }
        Ok(())
    }
}

fn insight(input: &Input<Utterance>, utterance: &Utterance, call: &Memory) -> Insight {
    Insight {
        utterance_id: input.event.head.event_id,
        channel: utterance.channel,
        speaker: utterance.speaker,
        start_ms: utterance.start_ms,
        end_ms: utterance.end_ms,
        language: utterance.language,
        words: call.count,
        sentiment: Sentiment {
            label: SentimentLabel::Neutral,
            score: 1.0,
            polarity: 0.0,
        },
        objections: Vec::new(),
        next_step: false,
        interest: false,
        conversation: Conversation {
            longest_monologue_ms: call.checksum,
            ..Conversation::default()
        },
    }
}

/// Keeps the event ids it got, batch by batch. Refuses the same texts as [`Counter`].
#[derive(Clone, Default)]
pub struct Keeper {
    pub batches: Arc<Mutex<Vec<Vec<EventId>>>>,
    counter: Arc<Counter>,
}

impl Keeper {
    /// All event ids it got, in order.
    pub fn kept(&self) -> Vec<EventId> {
        self.batches.lock().unwrap().concat()
    }
}

impl Sink for Keeper {
    const NAME: &'static str = "keeper";
    const EFFECTS: Effects = Effects::Rows;
    const TOPICS: &'static [Topic] = &[topics::CALLS_TRANSCRIPT, topics::CALLS_INSIGHTS];

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        for envelope in batch {
            if let AnyEvent::Transcript(event) = &envelope.event
                && let Body::Item(utterance) = &event.body
            {
                let text = std::str::from_utf8(&utterance.text.0).unwrap();
                self.counter.obey(event.head.event_id, text).await?;
            }
        }
        let ids = batch.iter().map(|e| e.event.head().event_id).collect();
        self.batches.lock().unwrap().push(ids);
        Ok(())
    }
}
