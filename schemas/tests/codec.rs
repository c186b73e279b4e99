//! The wire format and the schemas, as a data team's standard tools see them.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use schemas::*;

fn head() -> Head {
    Head {
        event_id: EventId::derive("test", "call-1", 0),
        call_id: "call-1".into(),
        tenant: "acme".into(),
        time: 1_790_000_000_000,
    }
}

fn started() -> Started {
    Started {
        rep: "rep-1".into(),
        customer: Some(Sealed(vec![1, 2, 3])),
        language: "auto".into(),
        source: "wav".into(),
        channels: vec![Speaker::Rep, Speaker::Customer],
        started_at: 1_790_000_000_000,
    }
}

fn ended() -> Ended {
    Ended {
        reason: EndReason::Hangup,
        duration_ms: 90_000,
        utterances: Some(20),
        transcribed_ms: Some(90_000),
        conversation: Some(Conversation {
            talk_ratio: 0.5,
            ..Conversation::default()
        }),
        objections: Some(vec![ObjectionOutcome {
            kind: ObjectionKind::Price,
            raised: 2,
            answered: true,
        }]),
        next_step: Some(true),
    }
}

fn chunk() -> Chunk {
    Chunk {
        offset_ms: 100,
        duration_ms: 100,
        sample_rate: 8000,
        encoding: Encoding::PcmS16le,
        audio: Sealed(vec![0; 3200]),
    }
}

fn utterance() -> Utterance {
    Utterance {
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: 1000,
        end_ms: 2500,
        language: Language::Zh,
        words: 7,
        text: Sealed(vec![9; 40]),
    }
}

fn insight() -> Insight {
    Insight {
        utterance_id: EventId::derive("test", "u", 1),
        channel: 1,
        speaker: Speaker::Customer,
        start_ms: 1000,
        end_ms: 2500,
        language: Language::Fr,
        words: 7,
        sentiment: Sentiment {
            label: SentimentLabel::Negative,
            score: 0.75,
            polarity: -0.5,
        },
        objections: vec![
            Objection {
                kind: ObjectionKind::Price,
                score: 0.5,
            },
            Objection {
                kind: ObjectionKind::Stall,
                score: 0.25,
            },
        ],
        next_step: false,
        interest: true,
        conversation: Conversation::default(),
    }
}

fn tip() -> Tip {
    Tip {
        utterance_id: None,
        rule: "price".into(),
        playbook: "default".into(),
        playbook_version: "1".into(),
        objection: Some(ObjectionKind::Price),
        title: "Price".into(),
        say: "Say".into(),
        ask: "Ask?".into(),
        language: Language::Es,
        priority: 1,
        spoken_at: 1,
        expires_at: 2,
    }
}

fn survives<T: Item>(body: Body<T>) {
    let codec = Codec::new().unwrap();
    let event = Event { head: head(), body };
    let bytes = codec.encode(&event).unwrap();
    assert_eq!(bytes[0], 0);
    assert_eq!(codec::schema_id(&bytes).unwrap(), T::TOPIC.schema_id);
    assert_eq!(codec.decode::<T>(&bytes).unwrap(), event);
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!(json["call_id"], "call-1");
}

#[test]
fn every_event_of_every_topic_survives_the_wire() {
    survives::<Chunk>(Body::Started(started()));
    survives::<Chunk>(Body::Ended(ended()));
    survives(Body::Item(chunk()));
    survives::<Utterance>(Body::Started(started()));
    survives::<Utterance>(Body::Ended(ended()));
    survives(Body::Item(utterance()));
    survives::<Insight>(Body::Started(started()));
    survives::<Insight>(Body::Ended(ended()));
    survives(Body::Item(insight()));
    survives::<Tip>(Body::Started(started()));
    survives::<Tip>(Body::Ended(ended()));
    survives(Body::Item(tip()));
    survives(Body::Item(Feedback {
        tip_id: EventId::derive("test", "tip", 0),
        rep: "rep-1".into(),
        action: Action::Dismissed,
    }));
    survives(Body::Item(NoteRequest {
        cause: NoteCause::Outcome,
        outcome: Some("won".into()),
    }));
    survives(Body::Item(ParkedNote {
        crm: Crm::Salesforce,
        cause: NoteCause::Redrive,
        reason: "daily".into(),
        until: 1_790_000_000_000,
        times: 3,
    }));
    survives(Body::Item(Note {
        crm: Crm::Hubspot,
        result: NoteResult::Erased,
        crm_id: Some("123".into()),
        attempts: 2,
        latency_ms: Some(900),
        reason: None,
        until: None,
    }));
}

#[test]
fn event_ids_are_the_same_in_every_run() {
    assert_eq!(
        EventId::derive("transcription", "call-1", 3).to_string(),
        EventId::derive("transcription", "call-1", 3).to_string()
    );
    assert_ne!(EventId::derive("a", "bc", 0), EventId::derive("ab", "c", 0));
}

/// The schema of `T`'s topic with one more optional field in its item.
fn newer_schema<T: Item>() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(T::TOPIC.schema).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    let item = fields.iter_mut().find(|f| f["name"] == T::FIELD).unwrap();
    item["type"][1]["fields"].as_array_mut().unwrap().push(
        serde_json::json!({"name": "added_later", "type": ["null", "string"], "default": null}),
    );
    schema.to_string()
}

#[test]
fn a_new_optional_field_is_readable_both_ways() {
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;

    let codec = Codec::new().unwrap();
    let newer = apache_avro::Schema::parse_str(&newer_schema::<Utterance>()).unwrap();
    let event = Event {
        head: head(),
        body: Body::Item(utterance()),
    };
    let bytes = codec.encode(&event).unwrap();

    // New reader, old record: the field is null.
    let older = apache_avro::Schema::parse_str(Utterance::TOPIC.schema).unwrap();
    let reader = GenericDatumReader::builder(&older)
        .reader_schema(&newer)
        .build()
        .unwrap();
    let mut value = reader.read_value(&mut &bytes[5..]).unwrap();
    let Value::Record(fields) = &mut value else {
        panic!("a record")
    };
    let (_, Value::Union(_, item)) = fields.iter_mut().find(|(n, _)| n == "utterance").unwrap()
    else {
        panic!("a union")
    };
    let Value::Record(item) = item.as_mut() else {
        panic!("a record")
    };
    let (_, added) = item.iter_mut().find(|(n, _)| n == "added_later").unwrap();
    assert_eq!(*added, Value::Union(0, Box::new(Value::Null)));

    // Old reader, new record: the field is passed over.
    *added = Value::Union(1, Box::new(Value::String("new".into())));
    let datum = GenericDatumWriter::builder(&newer)
        .build()
        .unwrap()
        .write_value_to_vec(value);
    let mut record = vec![0, 0, 0, 3, 0xe7];
    record.extend(datum.unwrap());
    assert!(matches!(
        codec.decode::<Utterance>(&record),
        Err(CodecError::UnknownSchema(999))
    ));
    codec.learn(999, &newer_schema::<Utterance>()).unwrap();
    assert_eq!(codec.decode::<Utterance>(&record).unwrap(), event);
}

#[test]
fn bytes_that_are_no_event_are_refused_with_the_reason() {
    let codec = Codec::new().unwrap();
    assert!(matches!(
        codec.decode::<Tip>(b""),
        Err(CodecError::TooShort(0))
    ));
    assert!(matches!(
        codec.decode::<Tip>(b"{\"a\":1}"),
        Err(CodecError::Magic(b'{'))
    ));
    assert!(matches!(
        codec.decode::<Tip>(&[0, 0, 0, 9, 9, 1]),
        Err(CodecError::UnknownSchema(2313))
    ));
    assert!(matches!(
        codec.decode::<Tip>(&[0, 0, 0, 0, 4, 1]),
        Err(CodecError::Avro(_))
    ));
    let event = Event {
        head: head(),
        body: Body::Item(tip()),
    };
    let mut bytes = codec.encode(&event).unwrap();
    bytes.push(0);
    assert!(matches!(
        codec.decode::<Tip>(&bytes),
        Err(CodecError::Trailing(1))
    ));
    // An event of another topic does not pass for one of this.
    let other = codec
        .encode(&Event {
            head: head(),
            body: Body::Item(chunk()),
        })
        .unwrap();
    assert!(codec.decode::<Tip>(&other).is_err());
}
