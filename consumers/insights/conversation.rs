//! How a conversation goes: who talks how much, who cuts in, how the customer's sentiment moves.
//! A function of the utterances and their times, nothing else.

use std::collections::VecDeque;

use schemas::{Conversation, Language, Speaker, Utterance};

/// How many of the customer's last utterances the trend of sentiment looks at.
const TREND: usize = 8;
/// Below so many, there is no trend.
const TREND_LEAST: usize = 4;
/// Overlap up to which two people only happen to begin at the same time.
const COURTESY_MS: i64 = 200;
/// A silence of the rep from which on the customer has had room to speak.
const ROOM_MS: i64 = 5_000;
/// How far back an utterance may still turn out to overlap a new one. Longer than any utterance:
/// the two channels' utterances come in the order in which they end.
const LOOK_BACK_MS: i64 = 60_000;

/// What is remembered of one call to tell how it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    rep_ms: i64,
    customer_ms: i64,
    rep_words: i64,
    /// Where the rep's current stretch began, while there is one.
    stretch_start: Option<i64>,
    rep_end: i64,
    customer_end: i64,
    longest_monologue_ms: i64,
    interruptions: i32,
    rep_turns: VecDeque<Turn>,
    customer_turns: VecDeque<Turn>,
    polarities: VecDeque<f32>,
}

/// An utterance of substance, in call time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Turn {
    start_ms: i64,
    end_ms: i64,
    /// The rep's: already counted as an interruption.
    counted: bool,
}

impl Course {
    /// Takes in an utterance with its polarity of sentiment, -1 to 1.
    pub fn hear(&mut self, utterance: &Utterance, polarity: f32) {
        let speech = (utterance.end_ms - utterance.start_ms).max(0);
        let substance = !is_back_channel(utterance);
        match utterance.speaker {
            Speaker::Rep => {
                self.rep_ms += speech;
                self.rep_words += i64::from(utterance.words.max(0));
                self.stretch(utterance);
            }
            Speaker::Customer => {
                self.customer_ms += speech;
                self.feel(polarity);
                if substance {
                    self.end_stretch(utterance.end_ms);
                }
            }
        }
        if substance {
            self.take_turn(utterance);
        }
    }

    /// The figures up to and including the last utterance.
    pub fn figures(&self) -> Conversation {
        let monologue_ms = self.monologue_ms();
        Conversation {
            talk_ratio: ratio(self.rep_ms, self.rep_ms + self.customer_ms),
            longest_monologue_ms: self.longest_monologue_ms,
            monologue_ms,
            interruptions: self.interruptions,
            rep_words_per_minute: ratio(self.rep_words * 60_000, self.rep_ms),
            sentiment_trend: trend(&self.polarities),
        }
    }

    fn monologue_ms(&self) -> i64 {
        self.stretch_start
            .map_or(0, |start| (self.rep_end - start).max(0))
    }

    /// The rep goes on, or begins a new stretch after the customer or a silence.
    fn stretch(&mut self, utterance: &Utterance) {
        if utterance.start_ms - self.rep_end >= ROOM_MS {
            self.stretch_start = None;
        }
        self.rep_end = self.rep_end.max(utterance.end_ms);
        if self.rep_end <= self.customer_end {
            return;
        }
        self.stretch_start
            .get_or_insert(utterance.start_ms.max(self.customer_end));
        self.longest_monologue_ms = self.longest_monologue_ms.max(self.monologue_ms());
    }

    /// The customer has spoken: the rep's stretch is over, except for what came after.
    fn end_stretch(&mut self, end_ms: i64) {
        self.customer_end = self.customer_end.max(end_ms);
        let went_on = self.rep_end > self.customer_end;
        self.stretch_start = self
            .stretch_start
            .filter(|_| went_on)
            .map(|start| start.max(self.customer_end));
    }

    fn feel(&mut self, polarity: f32) {
        if self.polarities.len() == TREND {
            self.polarities.pop_front();
        }
        self.polarities.push_back(polarity);
    }

    /// Whichever of two overlapping utterances comes first, the interruption is found once.
    fn take_turn(&mut self, utterance: &Utterance) {
        let mut turn = Turn {
            start_ms: utterance.start_ms,
            end_ms: utterance.end_ms,
            counted: false,
        };
        match utterance.speaker {
            Speaker::Rep => {
                turn.counted = self
                    .customer_turns
                    .iter()
                    .any(|other| cuts_in(&turn, other));
                self.interruptions += i32::from(turn.counted);
                keep(&mut self.rep_turns, turn);
            }
            Speaker::Customer => {
                for rep in &mut self.rep_turns {
                    if !rep.counted && cuts_in(rep, &turn) {
                        rep.counted = true;
                        self.interruptions += 1;
                    }
                }
                keep(&mut self.customer_turns, turn);
            }
        }
    }
}

/// "mhm", "okay", "I see": said while listening, not to take the floor.
pub(super) fn is_back_channel(utterance: &Utterance) -> bool {
    // Words of Mandarin are counted in characters.
    let least_words = match utterance.language {
        Language::Zh => 5,
        _ => 3,
    };
    utterance.words < least_words && utterance.end_ms - utterance.start_ms < 1_000
}

/// Whether the rep began while the customer was speaking, and not just at the last moment.
fn cuts_in(rep: &Turn, customer: &Turn) -> bool {
    let overlap = rep.end_ms.min(customer.end_ms) - rep.start_ms;
    rep.start_ms > customer.start_ms && overlap > COURTESY_MS
}

fn keep(turns: &mut VecDeque<Turn>, turn: Turn) {
    turns.push_back(turn);
    while turns
        .front()
        .is_some_and(|old| turn.end_ms - old.end_ms > LOOK_BACK_MS)
    {
        turns.pop_front();
    }
}

fn ratio(part: i64, whole: i64) -> f32 {
    if whole <= 0 {
        return 0.0;
    }
    (part as f64 / whole as f64) as f32
}

/// How far the least-squares line through the values rises from the first to the last, as a share
/// of the greatest rise there is (from -1 to 1).
fn trend(polarities: &VecDeque<f32>) -> f32 {
    let count = polarities.len();
    if count < TREND_LEAST {
        return 0.0;
    }
    let middle = (count - 1) as f64 / 2.0;
    let (mut products, mut squares) = (0.0, 0.0);
    for (place, polarity) in polarities.iter().enumerate() {
        let distance = place as f64 - middle;
        products += distance * f64::from(*polarity);
        squares += distance * distance;
    }
    let rise = products / squares * (count - 1) as f64;
    (rise / 2.0).clamp(-1.0, 1.0) as f32
}

#[cfg(test)]
mod tests {
    use schemas::Sealed;

    use super::*;

    /// An utterance of `words` words from `start_ms` to `end_ms`.
    fn says(speaker: Speaker, start_ms: i64, end_ms: i64, words: i32) -> Utterance {
        Utterance {
            channel: 0,
            speaker,
            start_ms,
            end_ms,
            language: Language::En,
            words,
            text: Sealed::default(),
        }
    }

    fn rep(start_ms: i64, end_ms: i64) -> Utterance {
        says(Speaker::Rep, start_ms, end_ms, 10)
    }

    fn customer(start_ms: i64, end_ms: i64) -> Utterance {
        says(Speaker::Customer, start_ms, end_ms, 10)
    }

    fn mhm(speaker: Speaker, start_ms: i64) -> Utterance {
        says(speaker, start_ms, start_ms + 400, 1)
    }

    fn after(utterances: &[Utterance]) -> Conversation {
        let mut course = Course::default();
        for utterance in utterances {
            course.hear(utterance, 0.0);
        }
        course.figures()
    }

    fn trend_of(polarities: &[f32]) -> f32 {
        let mut course = Course::default();
        for (place, polarity) in polarities.iter().enumerate() {
            let at = place as i64 * 5_000;
            course.hear(&customer(at, at + 2_000), *polarity);
        }
        course.figures().sentiment_trend
    }

    #[test]
    fn nothing_said_gives_no_figures() {
        assert_eq!(after(&[]), Conversation::default());
    }

    #[test]
    fn talk_ratio_is_the_reps_share_of_all_speech() {
        let figures = after(&[rep(0, 6_000), customer(7_000, 9_000)]);
        assert_eq!(figures.talk_ratio, 0.75);
        assert_eq!(after(&[customer(0, 1_000)]).talk_ratio, 0.0);
    }

    #[test]
    fn the_reps_rate_counts_words_per_minute_of_the_reps_own_speech() {
        let figures = after(&[
            says(Speaker::Rep, 0, 10_000, 30),
            customer(11_000, 41_000),
            says(Speaker::Rep, 42_000, 52_000, 20),
        ]);
        assert_eq!(figures.rep_words_per_minute, 150.0);
    }

    #[test]
    fn a_monologue_runs_over_pauses_until_the_customer_speaks() {
        let mut said = vec![rep(0, 10_000), rep(11_000, 25_000)];
        assert_eq!(after(&said).monologue_ms, 25_000);
        said.push(customer(26_000, 28_000));
        let figures = after(&said);
        assert_eq!(figures.monologue_ms, 0);
        assert_eq!(figures.longest_monologue_ms, 25_000);
        said.push(rep(29_000, 33_000));
        let figures = after(&said);
        assert_eq!(figures.monologue_ms, 4_000);
        assert_eq!(figures.longest_monologue_ms, 25_000);
    }

    #[test]
    fn a_back_channel_does_not_end_a_monologue() {
        let said = [
            rep(0, 10_000),
            mhm(Speaker::Customer, 10_200),
            rep(11_000, 20_000),
        ];
        assert_eq!(after(&said).monologue_ms, 20_000);
        let long = says(Speaker::Customer, 10_000, 11_000, 1);
        assert_eq!(
            after(&[rep(0, 9_900), long, rep(12_000, 13_000)]).monologue_ms,
            1_000
        );
        let wordy = says(Speaker::Customer, 10_000, 10_900, 3);
        assert_eq!(
            after(&[rep(0, 9_900), wordy, rep(12_000, 13_000)]).monologue_ms,
            1_000
        );
    }

    #[test]
    fn a_back_channel_of_mandarin_may_have_more_characters() {
        let mut yes = says(Speaker::Customer, 10_000, 10_700, 3);
        yes.language = Language::Zh;
        assert_eq!(
            after(&[rep(0, 9_900), yes, rep(11_000, 13_000)]).monologue_ms,
            13_000
        );
    }

    #[test]
    fn a_silence_of_the_rep_ends_the_monologue() {
        let said = [rep(0, 10_000), rep(15_000, 18_000)];
        let figures = after(&said);
        assert_eq!(figures.monologue_ms, 3_000);
        assert_eq!(figures.longest_monologue_ms, 10_000);
    }

    #[test]
    fn what_the_rep_says_after_a_customer_who_is_heard_late_begins_the_next_monologue() {
        let said = [rep(0, 10_000), rep(10_500, 20_000), customer(9_000, 12_000)];
        assert_eq!(after(&said).monologue_ms, 8_000);
    }

    #[test]
    fn a_rep_who_speaks_only_within_the_customers_words_holds_no_monologue() {
        let said = [customer(0, 10_000), rep(8_000, 9_500)];
        assert_eq!(after(&said).monologue_ms, 0);
        assert_eq!(after(&said).longest_monologue_ms, 0);
    }

    #[test]
    fn a_rep_who_begins_while_the_customer_speaks_interrupts() {
        assert_eq!(
            after(&[customer(0, 5_000), rep(4_000, 8_000)]).interruptions,
            1
        );
        assert_eq!(
            after(&[customer(0, 5_000), rep(4_800, 8_000)]).interruptions,
            0
        );
        assert_eq!(
            after(&[customer(0, 5_000), rep(4_799, 8_000)]).interruptions,
            1
        );
        assert_eq!(
            after(&[customer(0, 5_000), rep(5_500, 8_000)]).interruptions,
            0
        );
    }

    #[test]
    fn a_customer_who_begins_while_the_rep_speaks_is_no_interruption_of_the_rep() {
        assert_eq!(
            after(&[rep(0, 5_000), customer(3_000, 8_000)]).interruptions,
            0
        );
    }

    #[test]
    fn an_interruption_is_found_once_in_either_order() {
        let (cut_off, cutting) = (customer(0, 10_000), rep(7_000, 9_000));
        for said in [
            [cut_off.clone(), cutting.clone()],
            [cutting.clone(), cut_off.clone()],
        ] {
            assert_eq!(after(&said).interruptions, 1);
        }
        let twice = [
            customer(0, 8_000),
            cutting,
            says(Speaker::Customer, 6_000, 12_000, 9),
        ];
        assert_eq!(after(&twice).interruptions, 1);
    }

    #[test]
    fn back_channels_neither_interrupt_nor_are_interrupted() {
        assert_eq!(
            after(&[mhm(Speaker::Rep, 3_000), customer(0, 10_000)]).interruptions,
            0
        );
        assert_eq!(
            after(&[mhm(Speaker::Customer, 3_000), rep(3_100, 10_000)]).interruptions,
            0
        );
    }

    #[test]
    fn there_is_no_trend_before_the_fourth_utterance_of_the_customer() {
        assert_eq!(trend_of(&[1.0, 0.0, -1.0]), 0.0);
        assert!(trend_of(&[1.0, 0.3, -0.3, -1.0]) < 0.0);
    }

    #[test]
    fn the_trend_is_the_slope_of_the_customers_last_utterances() {
        assert!((trend_of(&[1.0, 1.0 / 3.0, -1.0 / 3.0, -1.0]) + 1.0).abs() < 1e-6);
        assert!((trend_of(&[-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0]) - 1.0).abs() < 1e-6);
        assert_eq!(trend_of(&[0.5; 6]), 0.0);
        assert!((trend_of(&[0.0, 0.1, 0.2, 0.3, 0.4]) - 0.2).abs() < 1e-6);
        // Only the last eight count: the rise before them is forgotten.
        let mut risen = vec![-1.0; 4];
        risen.extend([0.9; 8]);
        assert!(trend_of(&risen).abs() < 1e-6);
    }

    #[test]
    fn the_trend_never_leaves_its_scale() {
        let fall = trend_of(&[1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]);
        assert_eq!(fall, -1.0);
    }

    #[test]
    fn the_rep_does_not_move_the_customers_trend() {
        let mut course = Course::default();
        for place in 0..8 {
            let at = place * 5_000;
            course.hear(&rep(at, at + 1_000), if place < 4 { -1.0 } else { 1.0 });
        }
        assert_eq!(course.figures().sentiment_trend, 0.0);
    }

    #[test]
    fn an_hour_of_call_is_remembered_in_little_space() {
        let mut course = Course::default();
        for place in 0..1_000 {
            let at = place * 4_000;
            course.hear(&customer(at, at + 1_500), 0.1);
            course.hear(&rep(at + 2_000, at + 3_500), 0.1);
        }
        assert!(course.customer_turns.len() < 20 && course.rep_turns.len() < 20);
        assert_eq!(course.polarities.len(), TREND);
    }
}
