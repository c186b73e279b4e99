//! Records of every topic, and sealed content in them.

use pipeline::seal::{MasterKey, MemoryKeys};
use pipeline::{Field, Sealer};
use proptest::prelude::*;
use schemas::{
    AnyEvent, Body, Codec, EndReason, Ended, Event, EventId, Head, Item, Language, Sealed, Speaker,
    Started, Utterance, topics,
};

use crate::bytes::near;
use crate::fuzz;

fn head(call_id: String, tenant: String, time: i64) -> Head {
    Head {
        event_id: EventId::derive("fuzz", &call_id, 0),
        call_id,
        tenant,
        time,
    }
}

/// Events of the transcript with whatever text and numbers.
fn event() -> impl Strategy<Value = Event<Utterance>> {
    let said = (
        any::<(i32, i64, i64, i32)>(),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|((channel, start_ms, end_ms, words), text)| {
            Body::<Utterance>::Item(Utterance {
                channel,
                speaker: Speaker::Customer,
                start_ms,
                end_ms,
                language: Language::Zh,
                words,
                text: Sealed(text),
            })
        });
    let started = (".*", ".*", any::<Option<Vec<u8>>>(), any::<i64>()).prop_map(
        |(rep, source, customer, started_at)| {
            Body::<Utterance>::Started(Started {
                rep,
                customer: customer.map(Sealed),
                language: "auto".to_owned(),
                source,
                channels: vec![Speaker::Rep],
                started_at,
            })
        },
    );
    let ended = any::<(i64, Option<i32>, Option<i64>, Option<bool>)>().prop_map(
        |(duration_ms, utterances, transcribed_ms, next_step)| {
            Body::<Utterance>::Ended(Ended {
                reason: EndReason::Aborted,
                duration_ms,
                utterances,
                transcribed_ms,
                conversation: None,
                objections: None,
                next_step,
            })
        },
    );
    let body = prop_oneof![said, started, ended];
    (".*", ".*", any::<i64>(), body).prop_map(|(call_id, tenant, time, body)| Event {
        head: head(call_id, tenant, time),
        body,
    })
}

#[test]
fn every_event_comes_back_from_its_bytes_as_it_was() {
    let codec = Codec::new().unwrap();
    fuzz(&event(), |event| {
        let bytes = codec
            .encode(&event)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        let back: Event<Utterance> = codec
            .decode(&bytes)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(back, event);
        Ok(())
    });
}

#[test]
fn a_record_of_any_bytes_is_an_event_or_an_error() {
    let codec = Codec::new().unwrap();
    let mut valid = Vec::new();
    for name in ["call-1", "", "电话"] {
        let event = Event::<Utterance> {
            head: head(name.to_owned(), "acme".to_owned(), 1_790_000_000_000),
            body: Body::Item(Utterance {
                channel: 1,
                speaker: Speaker::Customer,
                start_ms: 0,
                end_ms: 900,
                language: Language::En,
                words: 3,
                text: Sealed(vec![1; 40]),
            }),
        };
        valid.push(codec.encode(&event).unwrap());
    }
    fuzz(&near(valid), |bytes| {
        for topic in topics::ALL {
            // An error says that it is none; that nothing panics is what is asked.
            let decoded = AnyEvent::decode(&codec, topic.name, &bytes);
            let Ok(AnyEvent::Transcript(event)) = decoded else {
                continue;
            };
            let again = codec
                .encode(&event)
                .map_err(|e| TestCaseError::fail(e.to_string()))?;
            let back = codec.decode::<Utterance>(&again);
            prop_assert_eq!(back.ok(), Some(event), "{}", Utterance::TOPIC.name);
        }
        Ok(())
    });
}

#[test]
fn sealed_content_opens_as_it_was_or_not_at_all() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let master = MasterKey::from_base64(&MasterKey::generate()).unwrap();
    let sealer = Sealer::new(master, MemoryKeys::default());
    let key = runtime.block_on(sealer.create("acme", "call-1")).unwrap();
    let other = runtime.block_on(sealer.create("acme", "call-2")).unwrap();
    let plain = "es demasiado caro";
    let sealed = key.seal(Field::TEXT, plain.as_bytes()).unwrap();
    fuzz(&near(vec![sealed.0.clone()]), |bytes| {
        let changed = Sealed(bytes);
        prop_assert!(other.open_text(Field::TEXT, &changed).is_err());
        prop_assert!(key.open_text(Field::CUSTOMER, &changed).is_err());
        match key.open_text(Field::TEXT, &changed) {
            Ok(text) => prop_assert!(changed == sealed && text == plain),
            Err(_) => prop_assert!(changed != sealed),
        }
        Ok(())
    });
    fuzz(&any::<Vec<u8>>(), |plain| {
        let sealed = key
            .seal(Field::AUDIO, &plain)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        let opened = key
            .open(Field::AUDIO, &sealed)
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&opened[..], &plain[..]);
        Ok(())
    });
}
