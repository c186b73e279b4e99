use schemas::{
    Action, Body, Conversation, Crm, EndReason, Ended, Event, EventId, Feedback, Head, Insight,
    Language, Objection, ObjectionKind, ObjectionOutcome, Sealed, Sentiment, SentimentLabel,
    Speaker, Started, Tip, Utterance,
};
use schemas::{AnyEvent, Item};

use super::fact::{self, Kept};
use super::mapping::{Style, hubspot_call, salesforce_object, salesforce_task};
use super::note::{Note, Opened, Story, Value, note};
use super::tenant::Tenant;

const START: i64 = 1_790_000_000_000;
const SENTENCE: &str = "honestly it is <b>way</b> too expensive for us";

fn tenant(text: &str) -> Tenant {
    Tenant::parse("acme", text).unwrap()
}

fn id(name: &str) -> EventId {
    EventId::derive("test", name, 0)
}

fn event<T: Item>(name: &str, at_ms: i64, body: Body<T>) -> Event<T> {
    Event {
        head: Head {
            event_id: id(name),
            call_id: "call-1".to_owned(),
            tenant: "acme".to_owned(),
            time: START + at_ms,
        },
        body,
    }
}

fn ended() -> Ended {
    Ended {
        reason: EndReason::Hangup,
        duration_ms: 90_000,
        utterances: Some(3),
        transcribed_ms: None,
        conversation: Some(Conversation {
            talk_ratio: 0.6,
            sentiment_trend: 0.25,
            ..Conversation::default()
        }),
        objections: Some(vec![
            ObjectionOutcome {
                kind: ObjectionKind::Price,
                raised: 2,
                answered: true,
            },
            ObjectionOutcome {
                kind: ObjectionKind::Trust,
                raised: 1,
                answered: false,
            },
        ]),
        next_step: Some(true),
    }
}

fn insight(name: &str, start_ms: i64, polarity: f32, objections: &[ObjectionKind]) -> AnyEvent {
    let objections = objections.iter().map(|kind| Objection {
        kind: *kind,
        score: 0.9,
    });
    AnyEvent::Insight(event(
        &format!("found {name}"),
        start_ms,
        Body::Item(Insight {
            utterance_id: id(name),
            channel: 1,
            speaker: Speaker::Customer,
            start_ms,
            end_ms: start_ms + 1_000,
            language: Language::En,
            words: 5,
            sentiment: Sentiment {
                label: SentimentLabel::Neutral,
                score: 0.9,
                polarity,
            },
            objections: objections.collect(),
            next_step: false,
            interest: false,
            conversation: Conversation::default(),
        }),
    ))
}

/// A call with two objections, two tips, and what the rep did with one.
fn call() -> Vec<AnyEvent> {
    let started = Started {
        rep: "ana".to_owned(),
        customer: Some(Sealed(vec![1, 2, 3])),
        language: "en".to_owned(),
        source: "test".to_owned(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        started_at: START,
    };
    let tip = |title: &str| Tip {
        utterance_id: None,
        rule: "price".to_owned(),
        playbook: "default".to_owned(),
        playbook_version: "1".to_owned(),
        objection: Some(ObjectionKind::Price),
        title: title.to_owned(),
        say: "Say".to_owned(),
        ask: "Ask?".to_owned(),
        language: Language::En,
        priority: 1,
        spoken_at: START,
        expires_at: START,
    };
    let did = |n: &str, action| {
        let feedback = Feedback {
            tip_id: id("tip 1"),
            rep: "ana".to_owned(),
            action,
        };
        AnyEvent::Feedback(event(n, 40_000, Body::Item(feedback)))
    };
    vec![
        AnyEvent::Tip(event("started", 0, Body::Started(started))),
        AnyEvent::Transcript(event(
            "said 1",
            1_000,
            Body::Item(Utterance {
                channel: 1,
                speaker: Speaker::Customer,
                start_ms: 1_000,
                end_ms: 2_000,
                language: Language::En,
                words: 5,
                text: Sealed(vec![9; 40]),
            }),
        )),
        insight("said 1", 1_000, -0.8, &[ObjectionKind::Price]),
        insight("said 2", 45_000, 0.0, &[ObjectionKind::Trust]),
        insight("said 3", 80_000, 0.9, &[]),
        AnyEvent::Tip(event("tip 1", 2_000, Body::Item(tip("Price")))),
        AnyEvent::Tip(event("tip 2", 46_000, Body::Item(tip("Trust")))),
        did("did 1", Action::Shown),
        did("did 2", Action::Used),
        AnyEvent::Tip(event("over tips", 90_000, Body::Ended(ended()))),
        AnyEvent::Insight(event("over insights", 90_000, Body::Ended(ended()))),
        AnyEvent::Transcript(event("over transcript", 90_000, Body::Ended(ended()))),
    ]
}

fn facts(events: &[AnyEvent]) -> Vec<Kept> {
    events
        .iter()
        .filter_map(|event| fact::of(event, true))
        .collect()
}

fn opened() -> Opened {
    Opened {
        customer: Some("Zebediah Quux".to_owned()),
        said: [(id("said 1").to_string(), SENTENCE.to_owned())].into(),
    }
}

fn written(text: &str) -> Note {
    let story = Story::of(facts(&call()));
    note(&tenant(text), Crm::Hubspot, "call-1", &story, &opened())
}

fn body(note: &Note) -> String {
    match note.get("body") {
        Some(Value::Text(body)) => body.clone(),
        other => panic!("no body: {other:?}"),
    }
}

#[test]
fn a_note_says_what_happened_in_the_call() {
    let note = written("link: https://coach.example/{call}\npersonal_content: true\n");
    let expected = [
        "Rep: ana",
        "Customer: Zebediah Quux",
        "Began: 2026-09-21T14:13:20Z",
        "Length: 1:30",
        "Outcome: next step agreed",
        "Objections:",
        "- price (2×): answered – “honestly it is <b>way</b> too expensive for us”",
        "- trust (1×): open",
        "Sentiment: negative → neutral → positive",
        "Rep's share of speech: 60 %",
        "Next step agreed: yes",
        "Tips:",
        "- Price: used",
        "- Trust: not shown",
        "https://coach.example/call-1",
    ];
    assert_eq!(body(&note), expected.join("\n"));
    for (name, value) in [
        ("tips_shown", Value::Whole(1)),
        ("tips_used", Value::Whole(1)),
        ("objections_raised", Value::Whole(2)),
        ("objections_answered", Value::Whole(1)),
        ("talk_ratio", Value::Whole(60)),
        ("next_step", Value::Flag(true)),
        ("hubspot_status", Value::Text("COMPLETED".to_owned())),
    ] {
        assert_eq!(note.get(name), Some(&value), "{name}");
    }
}

#[test]
fn without_leave_nothing_personal_is_in_a_note() {
    let note = written("{}");
    for word in ["Quux", "expensive"] {
        assert!(!format!("{note:?}").contains(word), "{word} in {note:?}");
    }
    assert_eq!(note.get("customer"), Some(&Value::Nothing));
}

#[test]
fn a_note_is_written_in_the_tenants_language() {
    for (language, word) in [
        ("es", "Objeciones:"),
        ("fr", "Prochaine étape convenue: oui"),
        ("zh", "价格 (2×): 已回应"),
    ] {
        let body = body(&written(&format!("language: {language}\n")));
        assert!(body.contains(word), "{word} in {body}");
    }
}

#[test]
fn a_note_is_the_same_in_whatever_order_its_facts_come_and_however_often() {
    let in_order = Story::of(facts(&call()));
    let mut turned = facts(&call());
    turned.reverse();
    turned.rotate_left(5);
    assert_eq!(Story::of(turned), in_order);
}

#[test]
fn a_note_waits_until_every_topic_that_it_is_written_from_has_ended() {
    let (all, words) = (call(), facts(&call()));
    assert!(Story::of(words).is_complete(true));
    let without = |count: usize| Story::of(facts(&all[..all.len() - count]));
    assert!(
        !without(1).is_complete(true),
        "the transcript has not ended"
    );
    assert!(without(1).is_complete(false), "nobody wants the words");
    assert!(
        !without(2).is_complete(false),
        "the insights have not ended"
    );
}

#[test]
fn a_corrected_outcome_takes_the_place_of_the_derived_one() {
    let mut facts = facts(&call());
    facts.push(Kept {
        event_id: "later".to_owned(),
        time: START + 100_000,
        fact: fact::Fact::Outcome {
            outcome: "won".to_owned(),
        },
    });
    let note = note(
        &tenant("{}"),
        Crm::Hubspot,
        "call-1",
        &Story::of(facts),
        &opened(),
    );
    assert_eq!(note.get("outcome"), Some(&Value::Text("won".to_owned())));
}

#[test]
fn each_crm_gets_values_in_its_own_style() {
    let note = written("reps: {ana: {hubspot: '77'}}\n");
    let hubspot = hubspot_call().render(&note, Style::HubSpot);
    assert_eq!(hubspot["hs_timestamp"], START.to_string());
    assert_eq!(hubspot["hs_call_duration"], "90000");
    assert_eq!(hubspot["hubspot_owner_id"], "77");
    assert!(
        hubspot["hs_call_body"]
            .as_str()
            .unwrap()
            .contains("Rep: ana<br>")
    );
    let salesforce = salesforce_object().render(&note, Style::Salesforce);
    assert_eq!(salesforce["Started_At__c"], "2026-09-21T14:13:20Z");
    assert_eq!(salesforce["Duration_Seconds__c"], 90);
    assert_eq!(salesforce["Next_Step__c"], true);
    assert!(salesforce["Link__c"].is_null());
    let task = salesforce_task().render(&note, Style::Salesforce);
    assert_eq!(
        (&task["Status"], &task["ActivityDate"]),
        (&"Completed".into(), &"2026-09-21".into())
    );
}

#[test]
fn what_the_customer_said_cannot_become_markup() {
    let note = written("personal_content: true\n");
    let html = hubspot_call().render(&note, Style::HubSpot)["hs_call_body"].to_string();
    assert!(
        html.contains("&lt;b&gt;way&lt;/b&gt;") && !html.contains("<b>"),
        "{html}"
    );
}

#[test]
fn a_long_note_is_cut_to_what_every_crm_takes() {
    let mut events = call();
    for n in 0..2_000 {
        let title = format!("a tip with a fairly long title & number {n}");
        let AnyEvent::Tip(mut tip) = events[5].clone() else {
            panic!("a tip")
        };
        tip.head.event_id = id(&title);
        if let Body::Item(tip) = &mut tip.body {
            tip.title = title;
        }
        events.push(AnyEvent::Tip(tip));
    }
    let story = Story::of(facts(&events));
    let note = note(&tenant("{}"), Crm::Hubspot, "call-1", &story, &opened());
    let html = hubspot_call().render(&note, Style::HubSpot)["hs_call_body"].to_string();
    let length = html.chars().count();
    assert!((30_000..=32_100).contains(&length), "{length}");
}

#[test]
fn every_mistake_in_a_tenants_file_is_told_with_the_way_out() {
    for (text, words) in [
        (
            "nonsense: 1",
            vec!["unknown field `nonsense`", "personal_content"],
        ),
        ("link: https://x", vec!["{call}"]),
        ("since: yesterday", vec!["2026-11-25T00:00:00Z"]),
        ("hubspot: {contacts: phone}", vec!["personal_content: true"]),
        ("hubspot: {url: api}", vec!["https://"]),
        (
            "hubspot: {fields: {hs_call_title: titel}}",
            vec!["titel", "title", "=text"],
        ),
        (
            "hubspot: {fields: {sales_coach_key: title}}",
            vec!["sales_coach_key"],
        ),
        ("salesforce: {username: u}", vec!["client_id"]),
    ] {
        let error = Tenant::parse("acme", text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
}

#[test]
fn calls_from_before_a_tenant_wants_notes_get_none() {
    let tenant = tenant("since: 2026-09-21T14:13:20Z\n");
    assert!(tenant.wants(START) && !tenant.wants(START - 1));
}
