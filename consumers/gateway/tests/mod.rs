//! The gateway as its clients see it, over HTTP.

mod api;
mod rig;

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use pipeline::clock;
use rig::{Call, Rig, Sent, action, token};

const ANA: (&str, &str) = ("acme", "ana");

#[tokio::test]
async fn a_screen_gets_the_whole_call_first_and_then_what_comes() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 10));
    rig.take(call.said(11, "es demasiado caro").await);
    rig.take(call.found(40));
    let mut screen = rig.screen("acme", "ana").await;
    let snapshot = screen.expect("snapshot").await;
    assert_eq!(snapshot.data, json!({"call_id": "call-1"}));
    let started = screen.expect("call").await;
    assert_eq!(started.data["state"], "running");
    assert_eq!(started.data["started_at"], call.started_at);
    assert_eq!(started.id, "call-1~10.-.-.-");
    let said = screen.expect("utterance").await;
    assert_eq!(said.data["text"], "es demasiado caro");
    assert_eq!(said.data["speaker"], "customer");
    let found = screen.expect("insight").await;
    assert_eq!(found.data["objections"][0]["kind"], "price");
    assert_eq!(found.data["sentiment"]["label"], "negative");
    let live = screen.expect("live").await;
    assert!((live.data["now"].as_i64().unwrap() - clock::now()).abs() < 10_000);

    let (id, tip) = call.tip(7, 20_000);
    rig.take(tip);
    let tip = screen.expect("tip").await;
    assert_eq!(tip.data["id"], id.to_string());
    assert_eq!(tip.data["say"], "Diga");
    assert_eq!(tip.id, "call-1~11.40.7.-");
    rig.take(call.ended(12));
    rig.take(call.tips_ended(8));
    assert_eq!(screen.expect("call").await.data["summary"]["utterances"], 7);
    let ended = screen.expect("call").await;
    assert_eq!(ended.data["state"], "ended");
    let summary = &ended.data["summary"];
    assert_eq!(
        (&summary["utterances"], &summary["objections"]),
        (&json!(7), &json!([]))
    );
    assert_eq!(rig.shared.metrics.tip_delivery.get_sample_count(), 1);
}

#[tokio::test]
async fn a_screen_resumes_at_any_gateway_and_loses_and_repeats_nothing() {
    let rig = Rig::new().await;
    let other = rig.beside().await;
    let call = Call::new(&rig, "acme", "call-1");
    let (mut transcript, mut tips) = (
        vec![call.started("ana", 5)],
        vec![call.tips_started("ana", 0)],
    );
    for n in 0..4 {
        transcript.push(call.said(10 + n, &format!("frase {n}")).await);
        tips.push(call.tip(20 + n, 60_000).1);
    }
    // Topics reach gateways in different order among each other.
    for (first, second) in transcript.iter().zip(&tips) {
        rig.take(first.clone());
        rig.take(second.clone());
    }
    for record in tips.iter().chain(&transcript) {
        other.take(record.clone());
    }
    let steps = |sent: Vec<Sent>| -> Vec<Value> {
        let steps = sent
            .into_iter()
            .filter(|sent| ["utterance", "tip"].contains(&&*sent.name));
        steps.map(|sent| sent.data["id"].clone()).collect()
    };
    let all = rig.screen("acme", "ana").await.backlog().await;
    assert_eq!(steps(all.clone()).len(), 8);
    for seen in 2..=all.len() {
        let (seen, id) = (&all[..seen], &all[seen - 1].id);
        for gateway in [&rig, &other] {
            let rest = gateway.resume("acme", "ana", id).await.backlog().await;
            assert!(rest.iter().all(|sent| sent.name != "snapshot"), "{id}");
            let mut joined = steps([seen, &rest[..]].concat());
            joined.sort_by_key(Value::to_string);
            let mut whole = steps(all.clone());
            whole.sort_by_key(Value::to_string);
            assert_eq!(joined, whole, "resumed at {id}");
        }
    }
    for id in ["call-0~5.-.-.-", "nonsense"] {
        let names = rig.resume("acme", "ana", id).await.names().await;
        assert_eq!(names[0], "snapshot", "{id}");
        assert_eq!(names.len(), all.len(), "{id}");
    }
}

#[tokio::test]
async fn a_gateway_that_lags_behind_repeats_nothing_to_a_screen_from_another() {
    let rig = Rig::new().await;
    let lagging = rig.beside().await;
    let call = Call::new(&rig, "acme", "call-1");
    let tips: Vec<_> = (1..=3).map(|offset| call.tip(offset, 60_000).1).collect();
    for gateway in [&rig, &lagging] {
        gateway.take(call.started("ana", 0));
    }
    rig.take(tips[0].clone());
    rig.take(tips[1].clone());
    let seen = rig.screen("acme", "ana").await.backlog().await;
    let last = seen.last().unwrap();
    let mut screen = lagging.resume("acme", "ana", &last.id).await;
    assert_eq!(screen.backlog().await, []);
    for tip in tips {
        lagging.take(tip);
    }
    assert_eq!(screen.expect("tip").await.id, "call-1~0.-.3.-");
}

#[tokio::test]
async fn nobody_sees_the_call_of_another_rep_or_tenant() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let mut others = vec![
        rig.screen("acme", "bob").await,
        rig.screen("other", "ana").await,
        rig.resume("other", "ana", "call-1~0.-.-.-").await,
    ];
    let (tip_id, tip) = call.tip(1, 60_000);
    rig.take(tip);
    rig.take(call.said(1, "secreto").await);
    for screen in &mut others {
        assert_eq!(
            screen.expect("snapshot").await.data,
            json!({"call_id": null})
        );
        assert_eq!(screen.backlog().await, []);
    }
    // Another tenant's call of the same name is another call.
    let theirs = Call::new(&rig, "other", "call-1");
    rig.take(theirs.started("ana", 0));
    for screen in &mut others[1..] {
        assert_eq!(
            screen.expect("call").await.data["started_at"],
            theirs.started_at
        );
    }
    let names = rig.screen("other", "ana").await.names().await;
    assert_eq!(names, ["snapshot", "call"]);
    assert_eq!(
        rig.feedback(("acme", "bob"), tip_id, action("used"))
            .await
            .0,
        403
    );
    assert_eq!(
        rig.feedback(("other", "ana"), tip_id, action("used"))
            .await
            .0,
        404
    );
    assert_eq!(rig.kept.0.lock().unwrap().as_ref().unwrap().len(), 0);
    rig.shared.stop.cancel();
    for mut screen in others {
        assert_eq!(screen.next().await, None, "nothing else ever came");
    }
}

#[tokio::test]
async fn a_late_tip_is_dropped_and_counted_and_never_shown() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let mut screen = rig.screen("acme", "ana").await;
    assert_eq!(screen.names().await, ["snapshot", "call"]);
    rig.take(call.tip(1, -1).1);
    rig.take(call.tip(2, 60_000).1);
    assert_eq!(screen.expect("tip").await.id, "call-1~0.-.2.-");
    assert_eq!(rig.shared.metrics.tips_late.get(), 1);
    assert_eq!(
        rig.screen("acme", "ana").await.names().await,
        ["snapshot", "call", "tip"]
    );
}

#[tokio::test]
async fn after_a_restart_an_old_tip_is_known_only_if_the_rep_had_seen_it() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let deadline = clock::now() + 1500;
    let (seen, seen_tip) = call.tip(1, 1500);
    rig.take(seen_tip.clone());
    rig.feedback(ANA, seen, action("dismissed")).await;
    let feedback = rig.kept.0.lock().unwrap().clone().unwrap().remove(0);

    while clock::now() <= deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let restarted = rig.beside().await;
    // Feedback lies on a topic of its own, which may be read first.
    restarted.shared.take(call.did(0, feedback), false);
    restarted.shared.take(call.started("ana", 0), false);
    restarted.shared.take(seen_tip, false);
    restarted.shared.take(call.tip(2, -1).1, false);
    let backlog = restarted.screen("acme", "ana").await.backlog().await;
    let tips: Vec<_> = backlog.iter().filter(|sent| sent.name == "tip").collect();
    assert_eq!(tips.len(), 1);
    assert_eq!(tips[0].data["id"], seen.to_string());
    let feedback: Vec<_> = backlog
        .iter()
        .filter(|sent| sent.name == "feedback")
        .collect();
    assert_eq!(
        feedback[0].data,
        json!({"tip_id": seen, "action": "dismissed"})
    );
    assert_eq!(restarted.shared.metrics.tips_late.get(), 0);
}

#[tokio::test]
async fn a_tip_expires_on_every_screen_in_time() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let mut screen = rig.screen("acme", "ana").await;
    assert_eq!(screen.names().await, ["snapshot", "call"]);
    let deadline = clock::now() + 1500;
    let (id, tip) = call.tip(1, 1500);
    rig.take(tip);
    screen.expect("tip").await;
    let expired = screen.expect("tip-expired").await;
    assert_eq!((expired.data, &*expired.id), (json!({"id": id}), ""));
    assert!(clock::now() >= deadline);
}

#[tokio::test]
async fn an_ended_call_stays_for_its_grace_and_a_new_call_takes_the_screen() {
    let rig = Rig::with(|settings| settings.grace = Duration::from_secs(60)).await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    rig.take(call.ended(1));
    let mut screen = rig.screen("acme", "ana").await;
    assert_eq!(screen.names().await, ["snapshot", "call", "call"]);
    rig.shared.calls.sweep(clock::now() + 30_000);
    assert_eq!(rig.screen("acme", "ana").await.names().await.len(), 3);

    let replayed = Call {
        started_at: call.started_at - 1_000_000,
        ..Call::new(&rig, "acme", "call-0")
    };
    rig.take(replayed.started("ana", 2));
    let newer = Call {
        started_at: call.started_at + 1000,
        ..Call::new(&rig, "acme", "call-2")
    };
    rig.take(newer.started("ana", 3));
    assert_eq!(screen.expect("call").await.data["call_id"], "call-2");
    rig.take(call.tips_ended(4));
    rig.take(newer.said(5, "hola").await);
    assert_eq!(screen.expect("utterance").await.id, "call-2~5.-.-.-");
    rig.shared.calls.sweep(clock::now() + 90_000);
    assert_eq!(
        rig.shared.calls.open(),
        2,
        "only the ended call is forgotten"
    );
    rig.shared.calls.sweep(clock::now() + 5 * 3_600_000);
    let empty = rig.screen("acme", "ana").await.expect("snapshot").await;
    assert_eq!(empty.data, json!({"call_id": null}));
}

#[tokio::test]
async fn what_is_kept_of_calls_is_bounded() {
    let rig = Rig::with(|settings| {
        settings.events_per_call = 4;
        settings.calls = 2;
        settings.screens_per_rep = 2;
    })
    .await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let (oldest, tip) = call.tip(0, 60_000);
    rig.take(tip);
    for offset in 1..10 {
        rig.take(call.said(offset, "hola").await);
    }
    let backlog = rig.screen("acme", "ana").await.backlog().await;
    let ids: Vec<_> = backlog.iter().map(|sent| sent.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "",
            "call-1~0.-.-.-",
            "call-1~7.-.-.-",
            "call-1~8.-.-.-",
            "call-1~9.-.-.-"
        ]
    );
    assert_eq!(rig.feedback(ANA, oldest, action("used")).await.0, 404);
    for id in ["call-2", "call-3"] {
        rig.take(Call::new(&rig, "acme", id).started("bob", 0));
    }
    assert_eq!(rig.shared.calls.open(), 2);

    let _open = (
        rig.screen("acme", "bob").await,
        rig.screen("acme", "bob").await,
    );
    let request = rig
        .http
        .get(rig.url("/v1/events"))
        .bearer_auth(token("acme", "bob"));
    assert_eq!(request.send().await.unwrap().status(), 429);
}

#[tokio::test]
async fn an_erased_call_has_no_words_on_any_screen() {
    let rig = Rig::new().await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    rig.take(call.said(1, "borrar esto").await);
    let before = rig.screen("acme", "ana").await.backlog().await;
    assert_eq!(before[2].data["text"], "borrar esto");
    rig.sealer.destroy("call-1").await.unwrap();
    let after = rig.screen("acme", "ana").await.backlog().await;
    assert_eq!(after[2].data["text"], Value::Null);
}

/// Reads nothing of its stream until nothing more goes into the connection; then the gateway must
/// let it go, while another screen of the same rep misses nothing.
#[tokio::test]
async fn a_screen_that_takes_nothing_is_cut_off_and_the_others_go_on() {
    let rig = Rig::with(|settings| {
        settings.waiting_events = 64;
        settings.stalled = Duration::from_millis(200);
    })
    .await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let mut stalled = TcpStream::connect(rig.address).await.unwrap();
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\r\n",
        token("acme", "ana")
    );
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut reading = rig.screen("acme", "ana").await;
    reading.backlog().await;
    let long = "palabra ".repeat(20_000);
    let gauge = &rig.shared.metrics.screens;
    connected(gauge, 2).await;
    for offset in 1..=400 {
        rig.take(call.said(offset, &long).await);
        let said = reading.expect("utterance").await;
        assert_eq!(said.id, format!("call-1~{offset}.-.-.-"));
        if gauge.get() == 1 {
            break;
        }
    }
    connected(gauge, 1).await;
    rig.take(call.ended(500));
    reading.expect("call").await;
}

/// Waits until so many screens are connected.
async fn connected(gauge: &prometheus::IntGauge, wanted: i64) {
    let deadline = tokio::time::Instant::now() + rig::WITHIN;
    while gauge.get() != wanted {
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "{} screens, not {wanted}", gauge.get());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_screen_that_falls_behind_is_counted() {
    let rig = Rig::with(|settings| settings.waiting_events = 1).await;
    let call = Call::new(&rig, "acme", "call-1");
    rig.take(call.started("ana", 0));
    let rep = super::call::RepId::new("acme", "ana");
    let mut slow = rig.shared.calls.watch(&rep, None, clock::now()).unwrap();
    rig.take(call.found(1));
    rig.take(call.found(2));
    assert_eq!(rig.shared.metrics.screens_cut_off.get(), 1);
    assert_eq!(slow.live.recv().await.map(|frame| frame.offset), Some(1));
    assert!(slow.live.recv().await.is_none());
}

#[tokio::test]
async fn a_stopping_gateway_ends_its_streams() {
    let rig = Rig::new().await;
    let mut screens: Vec<_> = [rig.screen("acme", "ana"), rig.screen("acme", "bob")]
        .into_iter()
        .collect::<FuturesUnordered<_>>()
        .collect()
        .await;
    for screen in &mut screens {
        assert_eq!(screen.names().await, ["snapshot"]);
    }
    assert_eq!(rig.shared.metrics.screens.get(), 2);
    rig.shared.stop.cancel();
    for screen in &mut screens {
        assert_eq!(screen.next().await, None);
    }
}
