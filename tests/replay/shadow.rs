//! A playbook tried on recorded calls: what reps would have been told, and nobody is.

use harness::{Signal, eventually};
use schemas::{Language, ObjectionKind, topics};
use serde_json::Value;

use crate::redrive::tips;
use crate::scene::{SOON, Scene, insights};

/// The playbook that ships with the price rule reworded, no rule for timing, and trust above all.
fn another() -> String {
    let shipped = harness::checkout().join("consumers/coaching/default.yaml");
    let text = std::fs::read_to_string(shipped).unwrap();
    let (before, rest) = text.split_once("  - id: timing\n").unwrap();
    let (_, after) = rest.split_once("  - id: authority\n").unwrap();
    let text = format!("{before}  - id: authority\n{after}");
    let worded = text.replace(
        "Let's set the price beside what the problem costs you today.",
        "The price is what it is.",
    );
    assert_ne!(worded, text);
    worded.replace("name: default", "name: bolder")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_is_tried_on_recorded_calls_and_nothing_of_it_is_live() {
    let scene = Scene::new().await;
    let (price, timing) = (ObjectionKind::Price, ObjectionKind::Timing);
    for (call, tenant, language) in [
        ("call-1", "acme", Language::En),
        ("call-2", "acme", Language::Es),
        ("call-3", "other", Language::En),
    ] {
        let found = [
            (price, language),
            (timing, language),
            (ObjectionKind::Trust, language),
        ];
        scene.write_all(&insights(tenant, call, &found)).await;
    }
    // Still on the line: a whole call is what is compared.
    let open = insights("acme", "call-4", &[(price, Language::En)]);
    scene.write_all(&open[..2]).await;
    let mut coaching = scene.spawn(&["run", "coaching"]);
    let live = [topics::COACHING_TIPS];
    eventually(SOON, "reps were given tips", async || {
        (scene.events(&live).await.len() == 17).then_some(())
    })
    .await;
    let before = scene.events(&live).await;
    assert_eq!(tips(&before).len(), 10);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bolder.yaml");
    std::fs::write(&file, another()).unwrap();
    let file = file.display().to_string();
    let plan = scene
        .replay(&["plan", "shadow", "--playbook", &file, "--from", "1h"])
        .await;
    assert!(
        plan.contains("of 4 calls") && plan.contains("coaching"),
        "{plan}"
    );
    let told = scene
        .replay(&["run", "shadow", "--playbook", &file, "--json"])
        .await;
    let difference: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&difference["calls"], &difference["partial"]),
        (&3.into(), &1.into()),
        "{told}"
    );
    let row = |rule: &str, language: &str| {
        let rules = difference["rules"].as_array().unwrap().iter();
        let mut rows = rules.filter(|row| row["rule"] == rule && row["language"] == language);
        rows.next().cloned().unwrap_or_default()
    };
    assert_eq!(row("price", "en")["changed"], 2);
    assert_eq!(row("price", "es")["changed"], 0);
    assert_eq!(
        (&row("timing", "en")["lost"], &row("timing", "es")["lost"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&row("trust", "en")["gained"], &row("trust", "en")["before"]),
        (&0.into(), &2.into())
    );
    let examples = difference["examples"].as_array().unwrap();
    let reworded = examples.iter().any(|example| {
        example["after"]["say"] == "The price is what it is." && example["call"] == "call-1"
    });
    assert!(reworded, "{examples:?}");
    assert_eq!(
        (&difference["before"][0], &difference["after"][0]),
        (&"default 1".into(), &"bolder 1".into())
    );

    // For people, and for one tenant.
    let told = scene
        .replay(&["run", "shadow", "--playbook", &file, "--tenant", "other"])
        .await;
    assert!(
        told.contains("1 calls compared: then default 1, in the trial bolder 1"),
        "{told}"
    );
    assert!(
        told.contains("+ [price en] Price: The price is what it is."),
        "{told}"
    );

    // The live topics hold what they held; a stage that starts anew sees nothing of it either.
    let after = scene.events(&live).await;
    assert_eq!(tips(&after), tips(&before));
    assert_eq!(after.len(), before.len());
    coaching.signal(Signal::Term);
    assert!(coaching.wait(SOON).await.success());

    // Its topics go when it is told.
    let journal = scene.journal().await;
    let id = journal[0]["id"].as_str().unwrap().to_owned();
    assert!(
        shadows(&scene)
            .await
            .iter()
            .any(|topic| topic.contains(&id))
    );
    scene.replay(&["cancel", &id, "--yes"]).await;
    eventually(SOON, "its topics are gone", async || {
        let left = shadows(&scene).await;
        (!left.iter().any(|topic| topic.contains(&id))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_that_is_none_is_refused_before_anything_begins() {
    let scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    std::fs::write(&file, "name: broken\nrules: none").unwrap();
    let file = file.display().to_string();
    let (status, _, stderr) = scene
        .coach(&["replay", "run", "shadow", "--playbook", &file])
        .await;
    assert!(
        !status.success() && stderr.contains("broken.yaml"),
        "{stderr}"
    );
    let (status, _, stderr) = scene.coach(&["replay", "run", "shadow"]).await;
    assert!(
        !status.success() && stderr.contains("nothing to try"),
        "{stderr}"
    );
    assert!(scene.journal().await.is_empty());
    assert_eq!(shadows(&scene).await, Vec::<String>::new());
}

/// The shadow topics of this scene.
async fn shadows(scene: &Scene) -> Vec<String> {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka.bootstrap)
        .create()
        .unwrap();
    let metadata = tokio::task::block_in_place(|| consumer.fetch_metadata(None, SOON).unwrap());
    let prefix = format!("{}shadow.", scene.kafka.prefix);
    let names = metadata
        .topics()
        .iter()
        .map(|topic| topic.name().to_owned());
    names.filter(|name| name.starts_with(&prefix)).collect()
}
