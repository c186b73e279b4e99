//! What reps would have been told by another playbook or model, beside what they were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use schemas::{Body, Event, EventId, Language, Tip};
use serde::Serialize;

/// Examples kept of each rule, language and kind of change.
const EXAMPLES: usize = 2;

/// A tip, as far as the comparison shows it. Its text comes from the playbook and quotes nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The rule.
    pub rule: String,
    /// Language of the text.
    #[serde(serialize_with = "as_str")]
    pub language: Language,
    /// A few words to see at a glance.
    pub title: String,
    /// One line to say.
    pub say: String,
    /// One question to ask.
    pub ask: String,
}

fn as_str<S: serde::Serializer>(language: &Language, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(language.as_str())
}

/// The tips of some calls.
#[derive(Clone, Debug, Default)]
pub struct Tips {
    calls: HashMap<String, Call>,
    /// Names and versions of the playbooks they come from.
    playbooks: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    started_at: Option<i64>,
    ended: bool,
    /// By the utterance that each answers, with its time.
    tips: BTreeMap<EventId, (i64, Told)>,
}

impl Tips {
    /// Takes an event in; the same once more changes nothing.
    pub fn take(&mut self, event: &Event<Tip>) {
        let call = self.calls.entry(event.head.call_id.clone()).or_default();
        match &event.body {
            Body::Started(started) => call.started_at = Some(started.started_at),
            Body::Ended(_) => call.ended = true,
            Body::Item(tip) => {
                let told = Told {
                    rule: tip.rule.clone(),
                    language: tip.language,
                    title: tip.title.clone(),
                    say: tip.say.clone(),
                    ask: tip.ask.clone(),
                };
                let utterance = tip.utterance_id.unwrap_or(event.head.event_id);
                call.tips.insert(utterance, (event.head.time, told));
                let playbook = format!("{} {}", tip.playbook, tip.playbook_version);
                self.playbooks.insert(playbook);
            }
        }
    }

    /// Whether anything of the call is there.
    pub fn knows(&self, call: &str) -> bool {
        self.calls.contains_key(call)
    }
}

/// What changes for one rule in one language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Tips that reps were given.
    pub before: u64,
    /// Tips that they would be given.
    pub after: u64,
    /// On utterances where there was no tip.
    pub gained: u64,
    /// On utterances where there would be none any more.
    pub lost: u64,
    /// On utterances where there would be another: counted for the rule that would give it.
    pub changed: u64,
}

/// One utterance where something changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The call.
    pub call: String,
    /// When in the call, in milliseconds; none where its start is not known.
    pub at_ms: Option<i64>,
    /// What the rep was told.
    pub before: Option<Told>,
    /// What the rep would be told.
    pub after: Option<Told>,
}

/// What changes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    /// Whole calls on both sides.
    pub calls: u64,
    /// Calls of which one side lacks the start or the end: not compared.
    pub partial: u64,
    /// Playbooks that the tips of then came from.
    pub before: BTreeSet<String>,
    /// Playbooks that the tips of the trial come from.
    pub after: BTreeSet<String>,
    /// Tips that stay as they are.
    pub same: u64,
    /// By rule and language.
    #[serde(serialize_with = "as_rows")]
    pub rules: BTreeMap<(String, &'static str), Count>,
    /// Some of each kind of change.
    pub examples: Vec<Example>,
}

fn as_rows<S: serde::Serializer>(
    rules: &BTreeMap<(String, &'static str), Count>,
    to: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        rule: &'a str,
        language: &'a str,
        #[serde(flatten)]
        count: &'a Count,
    }
    to.collect_seq(rules.iter().map(|((rule, language), count)| Row {
        rule,
        language,
        count,
    }))
}

impl Difference {
    /// Compares the tips of then with those of the trial, for the trial's calls.
    pub fn of(before: &Tips, after: &Tips) -> Self {
        let mut difference = Self {
            before: before.playbooks.clone(),
            after: after.playbooks.clone(),
            ..Self::default()
        };
        let mut names: Vec<&String> = after.calls.keys().collect();
        names.sort();
        let mut shown: HashMap<(String, &'static str, &'static str), usize> = HashMap::new();
        for name in names {
            let now = &after.calls[name];
            let Some(then) = before
                .calls
                .get(name)
                .filter(|then| then.whole() && now.whole())
            else {
                difference.partial += 1;
                continue;
            };
            difference.calls += 1;
            let utterances: BTreeSet<(i64, EventId)> = then
                .tips
                .iter()
                .chain(&now.tips)
                .map(|(id, (at, _))| (*at, *id))
                .collect();
            for (at, id) in utterances {
                let told = |call: &Call| call.tips.get(&id).map(|(_, told)| told.clone());
                let (then, told_now) = (told(then), told(now));
                let Some(key) = difference.count(then.as_ref(), told_now.as_ref()) else {
                    continue;
                };
                let shown = shown.entry(key).or_default();
                *shown += 1;
                if *shown <= EXAMPLES {
                    difference.examples.push(Example {
                        call: name.clone(),
                        at_ms: now.started_at.map(|started| at - started),
                        before: then,
                        after: told_now,
                    });
                }
            }
        }
        difference
    }

    /// Counts one utterance; gives which change it is, if it is one.
    fn count(
        &mut self,
        before: Option<&Told>,
        after: Option<&Told>,
    ) -> Option<(String, &'static str, &'static str)> {
        if let Some(told) = before {
            self.row(told).before += 1;
        }
        if let Some(told) = after {
            self.row(told).after += 1;
        }
        let (told, kind) = match (before, after) {
            (None, Some(after)) => {
                self.row(after).gained += 1;
                (after, "gained")
            }
            (Some(before), None) => {
                self.row(before).lost += 1;
                (before, "lost")
            }
            (Some(before), Some(after)) if before != after => {
                self.row(after).changed += 1;
                (after, "changed")
            }
            _ => {
                self.same += u64::from(before.is_some());
                return None;
            }
        };
        Some((told.rule.clone(), told.language.as_str(), kind))
    }

    fn row(&mut self, told: &Told) -> &mut Count {
        let key = (told.rule.clone(), told.language.as_str());
        self.rules.entry(key).or_default()
    }

    /// All rules and languages together.
    pub fn sum(&self) -> Count {
        self.rules
            .values()
            .fold(Count::default(), |sum, row| Count {
                before: sum.before + row.before,
                after: sum.after + row.after,
                gained: sum.gained + row.gained,
                lost: sum.lost + row.lost,
                changed: sum.changed + row.changed,
            })
    }
}

impl Call {
    fn whole(&self) -> bool {
        self.started_at.is_some() && self.ended
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |of: &BTreeSet<String>| match of.is_empty() {
            true => "no tips".to_owned(),
            false => of.iter().cloned().collect::<Vec<_>>().join(", "),
        };
        writeln!(
            f,
            "{} calls compared: then {}, in the trial {}",
            self.calls,
            names(&self.before),
            names(&self.after)
        )?;
        if self.partial > 0 {
            writeln!(
                f,
                "{} calls not compared: one side lacks their start or end",
                self.partial
            )?;
        }
        writeln!(f)?;
        let width = self.rules.keys().map(|(rule, _)| rule.len());
        let width = width.chain([4]).max().unwrap_or(4);
        writeln!(
            f,
            "{:<width$}  {:<8}  {:>6}  {:>6}  {:>6}  {:>6}  {:>7}",
            "rule", "language", "then", "trial", "gained", "lost", "changed"
        )?;
        let mut line = |rule: &str, language: &str, row: &Count| {
            writeln!(
                f,
                "{rule:<width$}  {language:<8}  {:>6}  {:>6}  {:>6}  {:>6}  {:>7}",
                row.before, row.after, row.gained, row.lost, row.changed
            )
        };
        for ((rule, language), row) in &self.rules {
            line(rule, language, row)?;
        }
        line("all", "", &self.sum())?;
        writeln!(f, "\n{} tips stay as they were", self.same)?;
        for example in &self.examples {
            write!(f, "\n{example}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.before, &self.after) {
            (None, _) => "gained",
            (_, None) => "lost",
            _ => "changed",
        };
        write!(f, "{kind}: call {}", self.call)?;
        if let Some(at) = self.at_ms {
            write!(f, " at {}:{:02}", at / 60_000, at / 1_000 % 60)?;
        }
        writeln!(f)?;
        for (mark, told) in [("-", &self.before), ("+", &self.after)] {
            let Some(told) = told else { continue };
            writeln!(
                f,
                "  {mark} [{} {}] {}: {} / {}",
                told.rule, told.language, told.title, told.say, told.ask
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use schemas::{EndReason, Ended, Head, Speaker, Started};

    use super::*;

    const START: i64 = 1_790_000_000_000;

    fn event(call: &str, at: i64, body: Body<Tip>) -> Event<Tip> {
        Event {
            head: Head {
                event_id: EventId::derive("test", call, u32::try_from(at).unwrap()),
                call_id: call.into(),
                tenant: "acme".into(),
                time: START + at,
            },
            body,
        }
    }

    fn tip(call: &str, at: i64, rule: &str, say: &str, language: Language) -> Event<Tip> {
        let tip = Tip {
            utterance_id: Some(EventId::derive(
                "utterance",
                call,
                u32::try_from(at).unwrap(),
            )),
            rule: rule.into(),
            playbook: "default".into(),
            playbook_version: "1".into(),
            objection: None,
            title: "Title".into(),
            say: say.into(),
            ask: "Ask?".into(),
            language,
            priority: 1,
            spoken_at: START + at,
            expires_at: START + at + 1,
        };
        event(call, at, Body::Item(tip))
    }

    fn tips(call: &str, told: Vec<Event<Tip>>, ends: bool) -> Tips {
        let mut tips = Tips::default();
        let started = Started {
            rep: "ana".into(),
            customer: None,
            language: "auto".into(),
            source: "wav".into(),
            channels: vec![Speaker::Rep, Speaker::Customer],
            started_at: START,
        };
        tips.take(&event(call, 0, Body::Started(started)));
        told.iter().for_each(|event| tips.take(event));
        let ended = Ended {
            reason: EndReason::Hangup,
            duration_ms: 1,
            utterances: None,
            transcribed_ms: None,
            conversation: None,
            objections: None,
            next_step: None,
        };
        if ends {
            tips.take(&event(call, 999_999, Body::Ended(ended)));
        }
        tips
    }

    #[test]
    fn tips_are_gained_lost_changed_or_stay_per_rule_and_language() {
        let then = tips(
            "call-1",
            vec![
                tip("call-1", 1_000, "price", "a", Language::En),
                tip("call-1", 2_000, "price", "b", Language::Es),
                tip("call-1", 3_000, "stall", "c", Language::En),
            ],
            true,
        );
        let now = tips(
            "call-1",
            vec![
                tip("call-1", 1_000, "price", "a", Language::En),
                tip("call-1", 2_000, "price", "other words", Language::Es),
                tip("call-1", 222_000, "trust", "d", Language::En),
                // A record that is written twice is one tip.
                tip("call-1", 222_000, "trust", "d", Language::En),
            ],
            true,
        );
        let difference = Difference::of(&then, &now);
        let row = |rule: &str, language| difference.rules[&(rule.to_owned(), language)];
        assert_eq!((row("price", "en").gained, row("price", "en").lost), (0, 0));
        assert_eq!(row("price", "es").changed, 1);
        assert_eq!((row("stall", "en").lost, row("stall", "en").after), (1, 0));
        assert_eq!(
            (row("trust", "en").gained, row("trust", "en").before),
            (1, 0)
        );
        assert_eq!(
            (difference.same, difference.calls, difference.partial),
            (1, 1, 0)
        );
        let text = difference.to_string();
        assert!(text.contains("gained: call call-1 at 3:42"), "{text}");
        assert!(text.contains("- [stall en] Title: c / Ask?"), "{text}");
    }

    #[test]
    fn calls_that_are_not_whole_on_both_sides_are_not_compared() {
        let told = || vec![tip("call-1", 1_000, "price", "a", Language::En)];
        let whole = tips("call-1", told(), true);
        let cut = tips("call-1", Vec::new(), false);
        for (then, now) in [(&whole, &cut), (&cut, &whole), (&Tips::default(), &whole)] {
            let difference = Difference::of(then, now);
            assert_eq!((difference.calls, difference.partial), (0, 1));
            assert!(difference.rules.is_empty());
        }
    }

    #[test]
    fn only_some_examples_of_each_change_are_kept() {
        let many = (1..=20).map(|n| tip("call-1", n * 1_000, "price", "a", Language::En));
        let difference = Difference::of(
            &tips("call-1", Vec::new(), true),
            &tips("call-1", many.collect(), true),
        );
        assert_eq!(difference.sum().gained, 20);
        assert_eq!(difference.examples.len(), EXAMPLES);
    }
}
