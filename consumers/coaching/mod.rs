//! Coaching: turns insights into tips by the playbook, within what a rep can take in.
//!
//! Decides on event time only; whether a tip has come too late for the rep's screen is the
//! gateway's to say.

pub mod attention;
pub mod difference;
pub mod playbook;

use std::path::PathBuf;
use std::time::Duration;

use pipeline::envelope::Input;
use pipeline::{Deps, Effects, Outbox, Stage, StageError};
use prometheus::{IntCounterVec, Opts};
use schemas::{Body, Ended, Insight, Speaker, Tip};
use serde::{Deserialize, Serialize};

use attention::{Memory, Quiet};
use playbook::{Playbook, Rule};

/// Config section `[coaching]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// YAML file with the playbook; without it the one that ships.
    pub playbook: Option<PathBuf>,
}

/// The stage.
pub struct Coaching {
    playbook: Playbook,
    tips: IntCounterVec,
}

impl Stage for Coaching {
    const NAME: &'static str = "coaching";
    const EFFECTS: Effects = Effects::Topic;
    type In = Insight;
    type Out = Tip;
    type Settings = Settings;
    type Call = Memory;

    async fn open(settings: Settings, deps: &Deps) -> anyhow::Result<Self> {
        let playbook = Playbook::load(settings.playbook.as_deref())?;
        let tips = IntCounterVec::new(
            Opts::new("coach_tips_total", "tips written, by the playbook's rule"),
            &["rule"],
        )?;
        deps.metrics.register(Box::new(tips.clone()))?;
        tracing::info!(
            playbook = playbook.name,
            version = playbook.version,
            "playbook loaded"
        );
        Ok(Self { playbook, tips })
    }

    async fn process(
        &self,
        call: &mut Memory,
        input: &Input<Insight>,
        out: &mut Outbox<Tip>,
    ) -> Result<(), StageError> {
        match &input.event.body {
            Body::Started(started) => {
                out.emit(Body::Started(started.clone()));
            }
            Body::Ended(ended) => {
                let objections = Some(call.outcomes());
                out.emit(Body::Ended(Ended {
                    objections,
                    ..ended.clone()
                }));
            }
            Body::Item(insight) => match self.choose(call, insight) {
                Ok(choice) => self.emit(call, &choice, input, insight, out),
                Err(quiet) => out.skip(quiet.as_str()),
            },
        }
        Ok(())
    }
}

/// A rule and which of its texts.
struct Choice<'a> {
    rule: &'a Rule,
    variant: usize,
}

impl Coaching {
    /// What to tell the rep about this insight, or why to keep quiet.
    fn choose(&self, call: &mut Memory, insight: &Insight) -> Result<Choice<'_>, Quiet> {
        call.listen(insight, self.playbook.answer);
        if insight.speaker == Speaker::Customer && !insight.objections.is_empty() {
            return self.choose_answer(call, insight);
        }
        self.choose_delivery(call, insight)
    }

    fn choose_answer(&self, call: &Memory, insight: &Insight) -> Result<Choice<'_>, Quiet> {
        let mut quiet = Quiet::NoRule;
        let mut best: Option<Choice<'_>> = None;
        for objection in &insight.objections {
            let rule = self.playbook.rules.iter().find(|rule| {
                rule.when
                    .objection
                    .is_some_and(|kind| kind.0 == objection.kind)
                    && rule.when.score.is_none_or(|least| objection.score >= least)
            });
            let Some(rule) = rule else { continue };
            match call.may_answer(
                objection.kind,
                rule,
                insight.end_ms,
                self.playbook.attention,
            ) {
                Err(reason) => quiet = reason,
                Ok(variant) => {
                    // Insights name the likeliest first: keep it among rules of one priority.
                    if best
                        .as_ref()
                        .is_none_or(|best| rule.priority < best.rule.priority)
                    {
                        best = Some(Choice { rule, variant });
                    }
                }
            }
        }
        best.ok_or(quiet)
    }

    fn choose_delivery(&self, call: &Memory, insight: &Insight) -> Result<Choice<'_>, Quiet> {
        let at = Duration::from_millis(insight.end_ms.max(0).unsigned_abs());
        let mut quiet = Quiet::NothingToSay;
        let mut rules: Vec<&Rule> = self
            .playbook
            .rules
            .iter()
            .filter(|rule| {
                rule.when
                    .delivery(at, &insight.conversation, call.next_step())
            })
            .collect();
        rules.sort_by_key(|rule| rule.priority);
        for rule in rules {
            match call.may_remark(rule, insight.end_ms, self.playbook.attention) {
                Ok(variant) => return Ok(Choice { rule, variant }),
                Err(reason) => quiet = reason,
            }
        }
        Err(quiet)
    }

    fn emit(
        &self,
        call: &mut Memory,
        choice: &Choice<'_>,
        input: &Input<Insight>,
        insight: &Insight,
        out: &mut Outbox<Tip>,
    ) {
        let rule = choice.rule;
        let Some((language, text)) = self.playbook.text(rule, choice.variant, insight.language)
        else {
            out.skip(Quiet::NoRule.as_str());
            return;
        };
        let lifetime = i64::try_from(rule.expires_after.as_millis()).unwrap_or(i64::MAX);
        let spoken_at = input.event.head.time;
        call.told(rule, insight.end_ms, lifetime);
        out.emit(Body::Item(Tip {
            utterance_id: Some(insight.utterance_id),
            rule: rule.id.clone(),
            playbook: self.playbook.name.clone(),
            playbook_version: self.playbook.version.clone(),
            objection: rule.when.objection.map(|kind| kind.0),
            title: text.title,
            say: text.say,
            ask: text.ask,
            language,
            priority: rule.priority,
            spoken_at,
            expires_at: spoken_at.saturating_add(lifetime),
        }));
        if !input.rebuilding {
            self.tips.with_label_values(&[rule.id.as_str()]).inc();
        }
    }
}

#[cfg(test)]
mod tests;
