//! Insights: finds sentiment, objections and agreed next steps in each utterance, and tells how
//! the conversation goes.

pub mod conversation;
pub mod model;
pub mod reader;

use pipeline::envelope::Input;
use pipeline::{Deps, Effects, Field, Outbox, Poison, Sealer, Stage, StageError};
use prometheus::IntCounter;
use schemas::{Body, Ended, Insight, Speaker, Utterance};
use serde::{Deserialize, Serialize};

use conversation::Course;
use model::ReadError;

pub use model::Model;
pub use reader::{Passage, Reading, Turn};

/// Config section `[insights]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Folder of the model in the cache's `models`.
    pub model: String,
    /// Batches of utterances read at the same time, each on its own thread; 0 for one a core.
    pub workers: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: "insights".to_owned(),
            workers: 0,
        }
    }
}

/// The stage.
pub struct Insights {
    model: Model,
    sealer: Sealer,
    foreign: IntCounter,
}

/// What is remembered of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    course: Course,
    /// Each speaker's last utterance of substance: the turn before for what the other says next.
    rep: Option<String>,
    customer: Option<String>,
    next_step: bool,
}

impl Call {
    /// What the other speaker said last.
    fn before(&self, speaker: Speaker) -> Option<Turn> {
        let (speaker, text) = match speaker {
            Speaker::Rep => (Speaker::Customer, self.customer.clone()),
            Speaker::Customer => (Speaker::Rep, self.rep.clone()),
        };
        text.map(|text| Turn { speaker, text })
    }

    fn remember(&mut self, utterance: &Utterance, text: String) {
        if conversation::is_back_channel(utterance) {
            return;
        }
        match utterance.speaker {
            Speaker::Rep => self.rep = Some(text),
            Speaker::Customer => self.customer = Some(text),
        }
    }
}

impl Stage for Insights {
    const NAME: &'static str = "insights";
    const EFFECTS: Effects = Effects::Topic;
    type In = Utterance;
    type Out = Insight;
    type Settings = Settings;
    type Call = Call;

    async fn open(settings: Settings, deps: &Deps) -> anyhow::Result<Self> {
        let cache = deps.cache.clone();
        let sealer = deps.sealer.clone();
        let open = move || Model::open(&cache, &settings.model, settings.workers);
        let model = tokio::task::spawn_blocking(open).await??;
        let foreign = foreign()?;
        deps.metrics.register(Box::new(foreign.clone()))?;
        Ok(Self {
            model,
            sealer,
            foreign,
        })
    }

    async fn process(
        &self,
        call: &mut Call,
        input: &Input<Utterance>,
        out: &mut Outbox<Insight>,
    ) -> Result<(), StageError> {
        match &input.event.body {
            Body::Started(started) => {
                out.emit(Body::Started(started.clone()));
            }
            Body::Item(utterance) => self.read(call, input, utterance, out).await?,
            Body::Ended(ended) => {
                out.emit(Body::Ended(Ended {
                    conversation: Some(call.course.figures()),
                    next_step: Some(call.next_step),
                    ..ended.clone()
                }));
            }
        }
        Ok(())
    }
}

impl Insights {
    /// Reads one utterance. While rebuilding too: what the customer feels moves the trend.
    async fn read(
        &self,
        call: &mut Call,
        input: &Input<Utterance>,
        utterance: &Utterance,
        out: &mut Outbox<Insight>,
    ) -> Result<(), StageError> {
        let head = &input.event.head;
        let key = self.sealer.key(&head.call_id).await?;
        let text = key.open_text(Field::TEXT, &utterance.text)?;
        let passage = Passage {
            text: text.clone(),
            before: call.before(utterance.speaker),
        };
        let reading = self.model.read_one(passage).await?;
        if reading.foreign && !input.rebuilding {
            self.foreign.inc();
        }
        call.course.hear(utterance, reading.sentiment.polarity);
        call.remember(utterance, text);
        call.next_step |= reading.next_step;
        // Only the customer objects, and only the customer buys.
        let (objections, interest) = match utterance.speaker {
            Speaker::Customer => (reading.objections, reading.interest),
            Speaker::Rep => (Vec::new(), false),
        };
        out.emit(Body::Item(Insight {
            utterance_id: head.event_id,
            channel: utterance.channel,
            speaker: utterance.speaker,
            start_ms: utterance.start_ms,
            end_ms: utterance.end_ms,
            language: utterance.language,
            words: utterance.words,
            sentiment: reading.sentiment,
            objections,
            next_step: reading.next_step,
            interest,
            conversation: call.course.figures(),
        }));
        Ok(())
    }
}

fn foreign() -> prometheus::Result<IntCounter> {
    IntCounter::new(
        "coach_foreign_utterances_total",
        "utterances in a language that the insights model does not know",
    )
}

impl From<ReadError> for StageError {
    fn from(error: ReadError) -> Self {
        match error {
            // The same text fails again, whoever reads it.
            ReadError::Model(error) => Self::Poison(Poison::new("model", error)),
            ReadError::Gone => Self::fatal(error),
        }
    }
}

#[cfg(test)]
mod tests;
