//! The load of a run, drawn from its seed: calls, what is said in them and when, what is written
//! twice, and records that are no events. Pure: the same seed gives the same load.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use schemas::{Language, Speaker};

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Calls.
    pub calls: usize,
    /// Utterances of each.
    pub utterances: usize,
    /// In which all of them are said.
    pub within: Duration,
}

impl Size {
    /// What `make faults` plays: 2,000 utterances, all 40 calls at once for a while.
    pub const WHOLE: Self = Self {
        calls: 40,
        utterances: 50,
        within: Duration::from_secs(45),
    };
    /// What `make test` plays.
    pub const SHORT: Self = Self {
        calls: 20,
        utterances: 15,
        within: Duration::from_secs(15),
    };
}

/// A sentence that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    pub text: String,
    pub language: Language,
    pub speaker: Speaker,
}

/// One record to write, of the call with that number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, from the beginning of the run.
    pub at: Duration,
    pub call: usize,
    pub what: What,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The call begins.
    Started,
    /// The utterance of that number, from 1.
    Said(usize, Sentence),
    /// The utterance of that number once more.
    Again(usize),
    /// Bytes that are no event; none for a record without content.
    Poison(Option<Vec<u8>>),
    /// The call is over.
    Ended,
}

/// One run's load, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub seed: u64,
    pub size: Size,
    pub steps: Vec<Step>,
}

impl Load {
    /// Draws a load; `sentences` must not be empty.
    pub fn draw(seed: u64, size: Size, sentences: &[Sentence]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = Vec::new();
        // All calls are open together in the middle third.
        let third = size.within / 3;
        for call in 0..size.calls {
            let begins = third.mul_f64(rng.random());
            let ends = third * 2 + third.mul_f64(rng.random());
            let said = times(&mut rng, begins, ends, size.utterances);
            let step = |at, what| Step { at, call, what };
            steps.push(step(begins, What::Started));
            let last = said.len();
            for (index, at) in said.into_iter().enumerate() {
                let number = index + 1;
                let sentence = sentences.choose(&mut rng).cloned();
                steps.extend(sentence.map(|sentence| step(at, What::Said(number, sentence))));
                // Not after the last one: what comes after a call's end begins anew.
                if number < last && rng.random_bool(0.03) {
                    steps.push(step(at, What::Again(rng.random_range(1..=number))));
                }
                if rng.random_bool(0.01) {
                    steps.push(step(at, What::Poison(garbage(&mut rng))));
                }
            }
            steps.push(step(ends, What::Ended));
        }
        // Stable: what a call does at the same time stays in its order.
        steps.sort_by_key(|step| step.at);
        Self { seed, size, steps }
    }

    /// How many steps are of a kind.
    pub fn count(&self, kind: impl Fn(&What) -> bool) -> usize {
        self.steps.iter().filter(|step| kind(&step.what)).count()
    }

    /// Most calls that are open at once.
    pub fn at_once(&self) -> usize {
        let (mut open, mut most) = (0_usize, 0);
        for step in &self.steps {
            match step.what {
                What::Started => open += 1,
                What::Ended => open -= 1,
                _ => {}
            }
            most = most.max(open);
        }
        most
    }
}

/// `count` times between two others, in order.
fn times(rng: &mut StdRng, from: Duration, to: Duration, count: usize) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| from + (to - from).mul_f64(rng.random()))
        .collect();
    times.sort();
    times
}

fn garbage(rng: &mut StdRng) -> Option<Vec<u8>> {
    let mut kinds = [0, 1, 2];
    kinds.shuffle(rng);
    match kinds[0] {
        0 => None,
        // What looks like the frame of a known schema, and ends too soon.
        1 => Some(vec![0, 0, 0, 0, 2, rng.random()]),
        _ => Some((0..rng.random_range(1..64)).map(|_| rng.random()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences() -> Vec<Sentence> {
        let speakers = [Speaker::Rep, Speaker::Customer];
        let said = speakers.into_iter().enumerate();
        said.map(|(number, speaker)| Sentence {
            text: format!("sentence {number}"),
            language: Language::En,
            speaker,
        })
        .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_load_and_another_seed_another() {
        let draw = |seed| Load::draw(seed, Size::SHORT, &sentences());
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7).steps, draw(8).steps);
    }

    #[test]
    fn a_whole_load_has_two_thousand_utterances_of_at_least_twenty_calls_at_once() {
        for seed in 0..50 {
            let load = Load::draw(seed, Size::WHOLE, &sentences());
            assert_eq!(load.count(|what| matches!(what, What::Said(..))), 2_000);
            assert!(load.at_once() >= 20);
            assert!(load.count(|what| matches!(what, What::Again(_))) > 0);
            assert!(load.count(|what| matches!(what, What::Poison(_))) > 0);
        }
    }

    #[test]
    fn each_call_begins_says_its_utterances_in_order_and_ends() {
        let load = Load::draw(3, Size::SHORT, &sentences());
        for call in 0..load.size.calls {
            let of_call = load.steps.iter().filter(|step| step.call == call);
            let whats: Vec<&What> = of_call.map(|step| &step.what).collect();
            assert_eq!(whats[0], &What::Started);
            assert_eq!(whats[whats.len() - 1], &What::Ended);
            let mut said = 0;
            for what in whats {
                match what {
                    What::Said(number, _) => {
                        said += 1;
                        assert_eq!(*number, said);
                    }
                    What::Again(number) => assert!((1..=said).contains(number)),
                    _ => {}
                }
            }
            assert_eq!(said, load.size.utterances);
        }
    }
}
