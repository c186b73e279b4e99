use pipeline::{Envelope, Origin, TraceContext};
use schemas::{
    Conversation, Event, EventId, Head, Language, Objection, ObjectionKind, Sentiment,
    SentimentLabel,
};

use super::*;

/// A call of insights, and the tips it gave.
struct Rehearsal {
    coaching: Coaching,
    memory: Memory,
    at: i64,
    count: u32,
}

/// What one insight led to.
#[derive(Debug, PartialEq)]
enum Heard {
    Tip(Tip),
    Quiet(&'static str),
}

impl Heard {
    fn tip(self) -> Tip {
        match self {
            Self::Tip(tip) => tip,
            Self::Quiet(reason) => panic!("no tip: {reason}"),
        }
    }
}

impl Rehearsal {
    fn new() -> Self {
        let tips = IntCounterVec::new(Opts::new("t", "t"), &["rule"]).unwrap();
        let coaching = Coaching {
            playbook: Playbook::load(None).unwrap(),
            tips,
        };
        Self {
            coaching,
            memory: Memory::default(),
            at: 0,
            count: 0,
        }
    }

    /// `speaker` says so many words, `seconds` after the last utterance.
    async fn say(&mut self, seconds: i64, change: impl FnOnce(&mut Insight)) -> Heard {
        self.at += seconds * 1000;
        self.count += 1;
        let mut insight = Insight {
            utterance_id: EventId::derive("utterance", "call-1", self.count),
            channel: 1,
            speaker: Speaker::Customer,
            start_ms: self.at - 900,
            end_ms: self.at,
            language: Language::En,
            words: 8,
            sentiment: Sentiment {
                label: SentimentLabel::Neutral,
                score: 0.9,
                polarity: 0.0,
            },
            objections: Vec::new(),
            next_step: false,
            interest: false,
            conversation: Conversation::default(),
        };
        change(&mut insight);
        let head = Head {
            event_id: EventId::derive("insight", "call-1", self.count),
            call_id: "call-1".into(),
            tenant: "acme".into(),
            time: 1_000_000 + self.at,
        };
        let input = Envelope {
            event: Event {
                head: head.clone(),
                body: Body::Item(insight),
            },
            origin: Origin {
                topic: "calls.insights".into(),
                partition: 0,
                offset: 0,
            },
            timestamp: 0,
            trace: TraceContext::default(),
            rebuilding: false,
        };
        let mut out = Outbox::new(Coaching::NAME, head);
        self.coaching
            .process(&mut self.memory, &input, &mut out)
            .await
            .unwrap();
        match out.into_parts() {
            (mut events, None) => match events.remove(0).body {
                Body::Item(tip) => Heard::Tip(tip),
                other => panic!("{other:?}"),
            },
            (events, Some(reason)) => {
                assert!(events.is_empty());
                Heard::Quiet(reason)
            }
        }
    }

    async fn objects(&mut self, seconds: i64, kinds: &[(ObjectionKind, f32)]) -> Heard {
        self.say(seconds, |insight| {
            insight.objections = kinds
                .iter()
                .map(|(kind, score)| Objection {
                    kind: *kind,
                    score: *score,
                })
                .collect();
        })
        .await
    }

    async fn rep(&mut self, seconds: i64, words: i32) -> Heard {
        self.say(seconds, |insight| {
            insight.speaker = Speaker::Rep;
            insight.words = words;
        })
        .await
    }
}

use ObjectionKind::{Competitor, Price, Stall, Timing, Trust};

#[tokio::test]
async fn an_objection_gives_a_tip_in_the_customers_language_that_says_why_it_came() {
    let mut call = Rehearsal::new();
    let tip = call
        .say(5, |insight| {
            insight.language = Language::Fr;
            insight.objections = vec![Objection {
                kind: Price,
                score: 0.8,
            }];
        })
        .await
        .tip();
    assert_eq!((tip.objection, tip.language), (Some(Price), Language::Fr));
    assert_eq!(tip.title, "Prix");
    assert_eq!(
        tip.utterance_id,
        Some(EventId::derive("utterance", "call-1", 1))
    );
    assert_eq!(
        (tip.rule.as_str(), tip.playbook.as_str()),
        ("price", "default")
    );
    assert_eq!((tip.spoken_at, tip.expires_at), (1_005_000, 1_025_000));
}

#[tokio::test]
async fn of_several_objections_the_most_pressing_is_answered() {
    let mut call = Rehearsal::new();
    let tip = call
        .objects(5, &[(Stall, 0.9), (Trust, 0.7), (Price, 0.6)])
        .await
        .tip();
    assert_eq!(
        tip.objection,
        Some(Trust),
        "priority first, then likelihood"
    );
}

#[tokio::test]
async fn no_second_tip_for_an_objection_while_one_is_on_the_screen() {
    let mut call = Rehearsal::new();
    call.objects(5, &[(Price, 0.9)]).await.tip();
    assert_eq!(
        call.objects(5, &[(Price, 0.9)]).await,
        Heard::Quiet("on_screen")
    );
    assert_eq!(
        call.objects(5, &[(Competitor, 0.9)]).await.tip().objection,
        Some(Competitor)
    );
    let again = call.objects(12, &[(Price, 0.9)]).await.tip();
    assert_eq!(
        again.title, "Price, again",
        "none twice: the second text of the rule"
    );
    assert_eq!(
        call.objects(90, &[(Price, 0.9)]).await,
        Heard::Quiet("said_already")
    );
}

#[tokio::test]
async fn no_more_tips_a_minute_than_the_attention_budget() {
    let mut call = Rehearsal::new();
    for kind in [Price, Competitor, Trust, Stall] {
        call.objects(5, &[(kind, 0.9)]).await.tip();
    }
    assert_eq!(
        call.objects(5, &[(Timing, 0.9)]).await,
        Heard::Quiet("attention_budget")
    );
    call.objects(60, &[(Timing, 0.9)]).await.tip();
}

#[tokio::test]
async fn an_objection_the_rep_has_answered_is_not_raised_again() {
    let mut call = Rehearsal::new();
    call.objects(5, &[(Price, 0.9)]).await.tip();
    call.rep(5, 20).await;
    call.say(5, |_| {}).await;
    assert_eq!(
        call.objects(40, &[(Price, 0.9)]).await,
        Heard::Quiet("answered")
    );
    let outcome = &call.memory.outcomes()[0];
    assert_eq!(
        (outcome.kind, outcome.raised, outcome.answered),
        (Price, 2, true)
    );
}

#[tokio::test]
async fn an_objection_stays_open_while_the_rep_is_silent_or_the_customer_displeased() {
    let mut call = Rehearsal::new();
    call.objects(5, &[(Price, 0.9)]).await.tip();
    call.say(5, |_| {}).await;
    assert!(
        !call.memory.outcomes()[0].answered,
        "the rep has said nothing"
    );
    call.rep(5, 20).await;
    call.say(5, |insight| insight.sentiment.polarity = -0.9)
        .await;
    assert!(
        !call.memory.outcomes()[0].answered,
        "the customer is displeased"
    );
    call.objects(20, &[(Price, 0.9)]).await.tip();
}

#[tokio::test]
async fn a_long_monologue_is_remarked_on_once_and_never_over_another_tip() {
    let mut call = Rehearsal::new();
    call.objects(5, &[(Price, 0.9)]).await.tip();
    let long = |insight: &mut Insight| {
        insight.speaker = Speaker::Rep;
        insight.conversation.monologue_ms = 50_000;
    };
    assert_eq!(call.say(5, long).await, Heard::Quiet("on_screen"));
    let tip = call.say(30, long).await.tip();
    assert_eq!((tip.rule.as_str(), tip.objection), ("monologue", None));
    assert_eq!(call.say(120, long).await, Heard::Quiet("said_already"));
}

#[tokio::test]
async fn a_missing_next_step_is_remarked_on_unless_one_was_agreed() {
    let mut call = Rehearsal::new();
    assert_eq!(call.say(300, |_| {}).await, Heard::Quiet("nothing_to_say"));
    assert_eq!(call.say(90, |_| {}).await.tip().rule, "no-next-step");

    let mut call = Rehearsal::new();
    call.say(30, |insight| insight.next_step = true).await;
    assert_eq!(call.say(600, |_| {}).await, Heard::Quiet("nothing_to_say"));
}

#[tokio::test]
async fn the_same_insights_always_give_the_same_tips() {
    let mut texts = Vec::new();
    for _ in 0..2 {
        let mut call = Rehearsal::new();
        let mut run = Vec::new();
        for kind in [Price, Stall, Price, Trust, Timing, Competitor, Price] {
            run.push(call.objects(13, &[(kind, 0.9)]).await);
            run.push(call.rep(4, 3).await);
        }
        texts.push(format!("{run:?}"));
    }
    assert_eq!(texts[0], texts[1]);
}
