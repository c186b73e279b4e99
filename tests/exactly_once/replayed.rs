//! Replayed records: the runner keeps them from whoever could do harm with them.

use std::sync::{Arc, Mutex};

use harness::eventually;
use pipeline::replay::{Kind, Mark, header};
use pipeline::{Effects, Envelope, Sink, StageError};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use schemas::{AnyEvent, EventId, Topic, Utterance, topics};

use crate::scene::{DEADLINE, Scene, ended, started, utterance};
use crate::stages::Counter;

/// Tells someone outside: stands for a CRM.
#[derive(Clone, Default)]
struct Caller {
    told: Arc<Mutex<Vec<EventId>>>,
}

impl Sink for Caller {
    const NAME: &'static str = "caller";
    const EFFECTS: Effects = Effects::Outside;
    const TOPICS: &'static [Topic] = &[topics::CALLS_TRANSCRIPT];

    async fn write(&self, batch: &[Envelope<AnyEvent>]) -> Result<(), StageError> {
        let ids = batch.iter().map(|envelope| envelope.event.head().event_id);
        self.told.lock().unwrap().extend(ids);
        Ok(())
    }
}

fn redriven(stage: Option<&str>, effects: bool) -> Mark {
    Mark {
        id: "redrive-1".into(),
        kind: Kind::Redrive,
        stage: stage.map(str::to_owned),
        effects,
    }
}

async fn write(scene: &Scene, event: &schemas::Event<Utterance>, mark: &Mark) {
    let producer: FutureProducer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka.bootstrap)
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    let pairs = [
        (header::ID, Some(mark.id.as_str())),
        (header::KIND, Some(mark.kind.as_str())),
        (header::STAGE, mark.stage.as_deref()),
        (header::EFFECTS, mark.effects.then_some("yes")),
    ];
    let pairs = pairs.into_iter().filter(|(_, value)| value.is_some());
    let headers = pairs.fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value })
    });
    let (topic, payload) = (
        scene.kafka.topic(&topics::CALLS_TRANSCRIPT),
        scene.codec.encode(event).unwrap(),
    );
    let record = FutureRecord::to(&topic)
        .key(&event.head.call_id)
        .payload(&payload)
        .headers(headers);
    producer.send(record, DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_someone_outside_sees_only_what_is_redriven_for_it_with_the_operators_word() {
    let scene = Scene::new(harness::kafka().await.bootstrap()).await;
    let (new, allowed) = (started("call-1"), utterance("call-1", 9, "allowed"));
    let shadow = Mark {
        kind: Kind::Shadow,
        ..redriven(Some("caller"), true)
    };
    let refused = [
        redriven(None, false),
        redriven(None, true),
        redriven(Some("counter"), true),
        redriven(Some("caller"), false),
        shadow,
    ];
    for (index, mark) in (1..).zip(&refused) {
        write(&scene, &utterance("call-1", index, "refused"), mark).await;
    }
    scene.write(std::slice::from_ref(&new)).await;
    write(&scene, &allowed, &redriven(Some("caller"), true)).await;
    let caller = Caller::default();
    let sink = scene.run_sink(caller.clone());
    eventually(DEADLINE, "all records are finished", async || {
        let count = |outcome| sink.counted("coach_records_total", Some(("outcome", outcome)));
        (count("skipped") == refused.len() as f64 && count("written") == 2.0).then_some(())
    })
    .await;
    let told = caller.told.lock().unwrap().clone();
    assert_eq!(told, [new.head.event_id, allowed.head.event_id]);
    sink.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_takes_what_is_redriven_for_it_once_more_and_marks_what_it_makes() {
    let scene = Scene::new(harness::kafka().await.bootstrap()).await;
    let stage = scene.run(Counter::default());
    let again = utterance("call-1", 1, "x");
    scene.write(&[started("call-1"), again.clone()]).await;
    scene.output_of(2).await;
    // In an open call the event was seen before: for whom it is redriven, it counts all the same.
    write(&scene, &again, &redriven(Some("another"), false)).await;
    write(&scene, &again, &redriven(None, false)).await;
    write(&scene, &again, &redriven(Some("counter"), false)).await;
    scene.write(&[ended("call-1")]).await;
    let output = scene.output_of(4).await;
    assert_eq!(
        output.len(),
        4,
        "one for another stage, one seen before, one taken"
    );
    let AnyEvent::Insight(last) = &output[3].event else {
        panic!("an insight")
    };
    let schemas::Body::Ended(ended) = &last.body else {
        panic!("the end")
    };
    assert_eq!(ended.utterances, Some(2));
    let skipped = |reason| stage.counted("coach_records_total", Some(("reason", reason)));
    eventually(DEADLINE, "what is refused is counted", async || {
        (skipped("replayed") == 1.0 && skipped("duplicate") == 1.0).then_some(())
    })
    .await;
    stage.stop().await.unwrap();
}
