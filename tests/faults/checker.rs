//! Tells what a disturbed run did otherwise than the undisturbed one of the same seed. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// An event as it lies on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub call: String,
    pub id: String,
    /// Id of the utterance that it is about, if it is.
    pub about: Option<String>,
    /// All of it that must be the same in every run.
    pub content: String,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    /// Stage or sink that gave the record up.
    pub stage: String,
    /// Why, and the record's key and bytes.
    pub content: String,
}

/// A tip as it came to a softphone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub call: String,
    pub id: String,
}

/// All that is left of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Committed events of each topic, each partition's in order.
    pub topics: BTreeMap<&'static str, Vec<Seen>>,
    pub letters: Vec<Letter>,
    /// Rows of each table of the database.
    pub rows: BTreeMap<String, Vec<String>>,
    /// Status of each call in the ledger.
    pub ledger: BTreeMap<String, String>,
    /// What came to the softphone on which each call is shown, by call.
    pub screens: BTreeMap<String, Vec<Shown>>,
}

/// Topics that many clients write to from outside, each for itself: whoever is unsure writes again,
/// and two requests at once have no order. Whatever reads them takes the second for the same event.
const WRITTEN_FROM_OUTSIDE: [&str; 1] = ["coaching.feedback"];
/// Sinks have no transaction with Kafka: their dead letters come at least once.
const AT_LEAST_ONCE: [&str; 1] = ["reporting"];

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Lost,
    Twice,
    /// The same event with other content.
    Changed,
    /// What the undisturbed run does not have.
    Foreign,
    Order,
    /// Something of one call in another.
    CrossTalk,
    /// A call that the ledger does not call complete.
    Incomplete,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// Topic, table or screen.
    pub place: String,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {}: {}", self.kind, self.place, self.what)
    }
}

/// Compares a run with the undisturbed one.
pub fn compare(undisturbed: &Observed, run: &Observed) -> Vec<Finding> {
    let mut findings = Findings::default();
    for (topic, expected) in &undisturbed.topics {
        let seen = run.topics.get(topic).map_or(&[][..], Vec::as_slice);
        findings.topic(topic, expected, seen);
    }
    findings.cross_talk(run);
    findings.letters(&undisturbed.letters, &run.letters);
    for (table, expected) in &undisturbed.rows {
        let rows = run.rows.get(table).map_or(&[][..], Vec::as_slice);
        findings.table(table, expected, rows);
    }
    for call in undisturbed.ledger.keys() {
        let status = run.ledger.get(call).map_or("unknown", String::as_str);
        if status != "complete" {
            findings.add(
                Kind::Incomplete,
                "the ledger",
                format!("{call} is {status}"),
            );
        }
    }
    for (call, expected) in &undisturbed.screens {
        let shown = run.screens.get(call).map_or(&[][..], Vec::as_slice);
        findings.screen(call, expected, shown);
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, kind: Kind, place: &str, what: String) {
        self.0.push(Finding {
            kind,
            place: place.to_owned(),
            what,
        });
    }

    fn topic(&mut self, topic: &str, expected: &[Seen], seen: &[Seen]) {
        let known: HashMap<&str, &Seen> = by_id(expected);
        let count = |events: &[Seen]| counts(events.iter().map(|event| event.id.clone()));
        let lenient = WRITTEN_FROM_OUTSIDE.contains(&topic);
        self.amounts(topic, &count(expected), &count(seen), lenient);
        for event in seen {
            match known.get(event.id.as_str()) {
                Some(wanted) if wanted.call != event.call => {
                    let what = format!("{} of {} is in {}", event.id, wanted.call, event.call);
                    self.add(Kind::CrossTalk, topic, what);
                }
                Some(wanted) if wanted.content != event.content => {
                    let what = format!(
                        "{}\n    was {}\n    is  {}",
                        event.id, wanted.content, event.content
                    );
                    self.add(Kind::Changed, topic, what);
                }
                _ => {}
            }
        }
        if lenient {
            return;
        }
        let (wanted, got) = (orders(expected), orders(seen));
        for (call, wanted) in wanted {
            let got = got.get(call).map_or(&[][..], Vec::as_slice);
            self.order(&format!("{topic}, {call}"), &wanted, got);
        }
    }

    /// More or fewer of each than there should be.
    fn amounts(
        &mut self,
        place: &str,
        expected: &BTreeMap<String, usize>,
        seen: &BTreeMap<String, usize>,
        lenient: bool,
    ) {
        for (what, wanted) in expected {
            let got = seen.get(what).copied().unwrap_or(0);
            if got < *wanted {
                self.add(Kind::Lost, place, what.clone());
            } else if got > *wanted && !lenient {
                self.add(Kind::Twice, place, format!("{what}, {got} times"));
            }
        }
        for what in seen.keys().filter(|what| !expected.contains_key(*what)) {
            self.add(Kind::Foreign, place, what.clone());
        }
    }

    /// What both have must come in the same order.
    fn order(&mut self, place: &str, wanted: &[&str], got: &[&str]) {
        let common = |list: &[&str], other: &[&str]| -> Vec<String> {
            let other: BTreeSet<&str> = other.iter().copied().collect();
            let mut had = BTreeSet::new();
            let first = list
                .iter()
                .filter(|id| other.contains(*id) && had.insert(**id));
            first.map(|id| (*id).to_owned()).collect()
        };
        let (wanted, got) = (common(wanted, got), common(got, wanted));
        if let Some((wanted, got)) = wanted.iter().zip(&got).find(|(a, b)| a != b) {
            self.add(Kind::Order, place, format!("{got} came before {wanted}"));
        }
    }

    /// What is found in an utterance belongs to the utterance's call.
    fn cross_talk(&mut self, run: &Observed) {
        let transcript = run.topics.get("calls.transcript").into_iter().flatten();
        let said: HashMap<&str, &str> = transcript
            .map(|event| (event.id.as_str(), event.call.as_str()))
            .collect();
        for (topic, events) in &run.topics {
            for event in events {
                let about = event.about.as_deref().and_then(|id| said.get(id));
                if let Some(call) = about.filter(|call| **call != event.call) {
                    let what = format!("{} in {} is about {call}", event.id, event.call);
                    self.add(Kind::CrossTalk, topic, what);
                }
            }
        }
    }

    fn letters(&mut self, expected: &[Letter], seen: &[Letter]) {
        let of = |letters: &[Letter], sink: bool| {
            let letters = letters.iter();
            let of = letters.filter(|l| AT_LEAST_ONCE.contains(&l.stage.as_str()) == sink);
            counts(of.map(|letter| format!("{}: {}", letter.stage, letter.content)))
        };
        for sink in [false, true] {
            self.amounts("dead letters", &of(expected, sink), &of(seen, sink), sink);
        }
    }

    fn table(&mut self, table: &str, expected: &[String], rows: &[String]) {
        let place = format!("table {table}");
        let count = |rows: &[String]| counts(rows.iter().cloned());
        self.amounts(&place, &count(expected), &count(rows), false);
    }

    fn screen(&mut self, call: &str, expected: &[Shown], shown: &[Shown]) {
        let place = format!("the softphone of {call}");
        for tip in shown.iter().filter(|tip| tip.call != call) {
            self.add(
                Kind::CrossTalk,
                &place,
                format!("{} of {}", tip.id, tip.call),
            );
        }
        let count = |tips: &[Shown]| counts(tips.iter().map(|tip| tip.id.clone()));
        self.amounts(&place, &count(expected), &count(shown), false);
        let wanted: Vec<&str> = expected.iter().map(|tip| tip.id.as_str()).collect();
        let got: Vec<&str> = shown.iter().map(|tip| tip.id.as_str()).collect();
        self.order(&place, &wanted, &got);
    }
}

fn counts(all: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

fn by_id(events: &[Seen]) -> HashMap<&str, &Seen> {
    events
        .iter()
        .map(|event| (event.id.as_str(), event))
        .collect()
}

/// Event ids of each call, in order.
fn orders(events: &[Seen]) -> BTreeMap<&str, Vec<&str>> {
    let mut orders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in events {
        orders.entry(&event.call).or_default().push(&event.id);
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(call: &str, id: &str, about: Option<&str>) -> Seen {
        Seen {
            call: call.into(),
            id: id.into(),
            about: about.map(str::to_owned),
            content: format!("content of {id}"),
        }
    }

    fn undisturbed() -> Observed {
        let said = ["a1", "a2", "a3", "b1", "b2"];
        let call = |id: &str| format!("call-{}", &id[..1]);
        let transcript = said.map(|id| seen(&call(id), id, None)).to_vec();
        let insights = said.map(|id| seen(&call(id), &format!("i-{id}"), Some(id)));
        let tips = ["a1", "a3", "b2"].map(|id| seen(&call(id), &format!("t-{id}"), Some(id)));
        let shown = |tip: &Seen| Shown {
            call: tip.call.clone(),
            id: tip.id.clone(),
        };
        let screens = ["call-a", "call-b"].map(|call| {
            let of_call = tips.iter().filter(|tip| tip.call == call);
            (call.to_owned(), of_call.map(shown).collect())
        });
        let letter = |stage: &str| Letter {
            stage: stage.into(),
            content: "decode: x".into(),
        };
        Observed {
            topics: BTreeMap::from([
                ("calls.transcript", transcript),
                ("calls.insights", insights.to_vec()),
                ("coaching.tips", tips.to_vec()),
                ("coaching.feedback", vec![seen("call-a", "f-a1", None)]),
            ]),
            letters: vec![letter("insights"), letter("reporting")],
            rows: BTreeMap::from([("tips".into(), vec!["row 1".into(), "row 2".into()])]),
            ledger: ["call-a", "call-b"]
                .map(|c| (c.into(), "complete".into()))
                .into(),
            screens: screens.into(),
        }
    }

    fn kinds(spoil: impl Fn(&mut Observed)) -> Vec<Kind> {
        let mut run = undisturbed();
        spoil(&mut run);
        assert_ne!(run, undisturbed(), "nothing was planted");
        let found = compare(&undisturbed(), &run);
        let kinds: BTreeSet<Kind> = found.into_iter().map(|finding| finding.kind).collect();
        kinds.into_iter().collect()
    }

    fn topic<'a>(run: &'a mut Observed, name: &str) -> &'a mut Vec<Seen> {
        run.topics.get_mut(name).unwrap()
    }

    fn screen<'a>(run: &'a mut Observed, call: &str) -> &'a mut Vec<Shown> {
        run.screens.get_mut(call).unwrap()
    }

    #[test]
    fn the_same_run_has_no_finding() {
        assert_eq!(compare(&undisturbed(), &undisturbed()), []);
    }

    #[test]
    fn planted_losses_are_found_everywhere() {
        for name in [
            "calls.transcript",
            "calls.insights",
            "coaching.tips",
            "coaching.feedback",
        ] {
            assert_eq!(
                kinds(|run| drop(topic(run, name).pop())),
                [Kind::Lost],
                "{name}"
            );
            let all_gone = kinds(|run| drop(run.topics.remove(name)));
            assert_eq!(all_gone, [Kind::Lost], "{name}");
        }
        assert_eq!(kinds(|run| drop(run.letters.remove(0))), [Kind::Lost]);
        assert_eq!(kinds(|run| drop(run.letters.remove(1))), [Kind::Lost]);
        let row = kinds(|run| drop(run.rows.get_mut("tips").unwrap().pop()));
        assert_eq!(row, [Kind::Lost]);
        assert_eq!(kinds(|run| drop(screen(run, "call-a").pop())), [Kind::Lost]);
        assert_eq!(
            kinds(|run| drop(run.screens.remove("call-b"))),
            [Kind::Lost]
        );
    }

    #[test]
    fn planted_duplicates_are_found() {
        for name in ["calls.transcript", "calls.insights", "coaching.tips"] {
            let twice = kinds(|run| {
                let again = topic(run, name)[0].clone();
                topic(run, name).push(again);
            });
            assert_eq!(twice, [Kind::Twice], "{name}");
        }
        let again = |run: &mut Observed, letter: usize| {
            let again = run.letters[letter].clone();
            run.letters.push(again);
        };
        assert_eq!(kinds(|run| again(run, 0)), [Kind::Twice]);
        let row = kinds(|run| run.rows.get_mut("tips").unwrap().push("row 1".into()));
        assert_eq!(row, [Kind::Twice]);
        let shown = kinds(|run| {
            let again = screen(run, "call-a")[0].clone();
            screen(run, "call-a").push(again);
        });
        assert_eq!(shown, [Kind::Twice]);
    }

    #[test]
    fn what_is_promised_at_least_once_may_come_twice() {
        assert_eq!(kinds(|run| run.letters.push(run.letters[1].clone())), []);
        let feedback = |run: &mut Observed| {
            let again = topic(run, "coaching.feedback")[0].clone();
            topic(run, "coaching.feedback").push(again);
        };
        assert_eq!(kinds(feedback), []);
    }

    #[test]
    fn planted_reorderings_are_found() {
        for name in ["calls.transcript", "calls.insights"] {
            assert_eq!(
                kinds(|run| topic(run, name).swap(1, 2)),
                [Kind::Order],
                "{name}"
            );
        }
        assert_eq!(
            kinds(|run| topic(run, "coaching.tips").swap(0, 1)),
            [Kind::Order]
        );
        assert_eq!(kinds(|run| screen(run, "call-a").swap(0, 1)), [Kind::Order]);
        // Another order of different calls is none: they lie on partitions of their own.
        assert_eq!(kinds(|run| topic(run, "calls.insights").swap(2, 3)), []);
    }

    #[test]
    fn an_order_is_told_even_when_something_is_lost_or_twice() {
        let lost = kinds(|run| {
            let tips = topic(run, "calls.insights");
            tips.swap(0, 1);
            tips.remove(2);
        });
        assert_eq!(lost, [Kind::Lost, Kind::Order]);
        let twice = kinds(|run| {
            let insights = topic(run, "calls.insights");
            let again = insights[0].clone();
            insights.insert(2, again);
        });
        assert_eq!(twice, [Kind::Twice]);
    }

    #[test]
    fn planted_cross_talk_is_found() {
        let moved = kinds(|run| topic(run, "calls.insights")[0].call = "call-b".into());
        assert_eq!(moved, [Kind::CrossTalk]);
        let about = kinds(|run| topic(run, "coaching.tips")[0].about = Some("b1".into()));
        assert_eq!(about, [Kind::CrossTalk]);
        let strange = kinds(|run| {
            let tip = screen(run, "call-a")[0].clone();
            screen(run, "call-b").push(tip);
        });
        assert_eq!(strange, [Kind::Foreign, Kind::CrossTalk]);
    }

    #[test]
    fn planted_changes_and_foreign_events_are_found() {
        let changed = kinds(|run| topic(run, "calls.insights")[3].content = "other".into());
        assert_eq!(changed, [Kind::Changed]);
        let foreign = kinds(|run| topic(run, "coaching.tips").push(seen("call-a", "t-9", None)));
        assert_eq!(foreign, [Kind::Foreign]);
        let row = kinds(|run| run.rows.get_mut("tips").unwrap().push("row 3".into()));
        assert_eq!(row, [Kind::Foreign]);
    }

    #[test]
    fn a_call_that_is_not_complete_is_found() {
        let open = kinds(|run| drop(run.ledger.insert("call-a".into(), "open".into())));
        assert_eq!(open, [Kind::Incomplete]);
        let unknown = kinds(|run| drop(run.ledger.remove("call-b")));
        assert_eq!(unknown, [Kind::Incomplete]);
    }
}
