//! Tenants' names and scripts, with the real model.

use super::*;
use crate::script::Script;

fn tenant(script: Script, names: &[&str]) -> TenantSettings {
    let names = names.iter().map(|&name| name.to_owned());
    TenantSettings {
        script,
        vocabulary: Vocabulary::new(names).unwrap(),
    }
}

/// What the stage writes of the call, whose tenant is "tenant", with these settings.
async fn written(settings: (&str, TenantSettings), call: &Audio, language: &str) -> String {
    let (name, settings) = settings;
    let desk = Desk::with(BTreeMap::from([(name.to_owned(), settings)])).await;
    let events = desk.play(&desk.story(call, language), 0).await;
    let spoken = desk.spoken(&events);
    let texts: Vec<String> = spoken.into_iter().map(|(_, spoken)| spoken.4).collect();
    texts.join(" ")
}

#[tokio::test]
async fn a_tenants_names_are_written_in_its_calls_and_in_no_other_tenants() {
    let call = shortened(sample("en.wav"), 20);
    let names = || tenant(Script::Simplified, &["Emmah", "Brightlyn", "Zoomania"]);
    let own = written(("tenant", names()), &call, "en").await;
    assert!(own.contains("Emmah") && own.contains("Brightlyn"), "{own}");
    assert!(!own.contains("Zoomania"), "{own}");
    let others = written(("another", names()), &call, "en").await;
    assert!(
        others.contains("Emma") && !others.contains("Emmah"),
        "{others}"
    );
    assert_eq!(
        own.replace("Emmah", "Emma")
            .replace("Brightlyn", "Brightline"),
        others
    );
}

#[tokio::test]
async fn mandarin_is_written_in_the_script_that_the_tenant_asks_for() {
    let call = shortened(sample("zh.wav"), 20);
    let traditional = written(("tenant", tenant(Script::Traditional, &[])), &call, "zh").await;
    assert!(
        traditional.contains("預算") && !traditional.contains("预算"),
        "{traditional}"
    );
    let simplified = written(("another", tenant(Script::Traditional, &[])), &call, "zh").await;
    assert!(
        simplified.contains("预算") && !simplified.contains("預算"),
        "{simplified}"
    );
}

/// A vocabulary must not make words of what holds none.
#[tokio::test]
async fn names_are_never_heard_where_nobody_speaks() {
    let names = ["Emmah", "Brightlyn", "Oh", "You", "嗯啊"];
    let settings = tenant(Script::Simplified, &names);
    let transcriber = Transcriber::open(&onnx::cache_dir(), "whisper-base", 1).unwrap();
    let spelling = Arc::new(Spelling::from(&settings));
    for samples in [vec![0.0; 48_000], unspoken::hold_music(8)] {
        let choice = LanguageChoice::Among(Language::ALL.to_vec());
        let words = transcriber
            .transcribe(samples, choice, Arc::clone(&spelling))
            .await
            .unwrap();
        assert_eq!(words.text, "", "{words:?}");
    }
}
