//! `coach` as a person meets it: bad input gets a clear error with the way out, and nothing is
//! lost while something is away.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use harness::{Process, Signal};
use pipeline::Sealer;
use pipeline::config::DatabaseUrl;
use pipeline::database::{self, DatabaseSettings};
use pipeline::seal::{DatabaseKeys, MasterKey};

const COACH: &str = env!("CARGO_BIN_EXE_coach");
const SOON: Duration = Duration::from_secs(60);

/// Runs `coach` to its end: exit status, standard output, standard error.
async fn coach(arguments: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let mut process = Process::spawn(COACH, arguments, environment);
    let status = process.wait(SOON).await;
    (status, process.stdout(), process.stderr())
}

/// A WAV header for 16-bit samples, promising `data` bytes of them.
fn header(channels: u16, rate: u32, data: u32) -> Vec<u8> {
    let block = channels * 2;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(16u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(data.to_le_bytes());
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn recordings_that_cannot_be_played_are_refused_with_file_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = at.join("data").display().to_string();
    let missing = at.join("nowhere.wav").display().to_string();
    for (file, reason) in [
        (
            write(at, "notes.wav", b"dear diary, today I sold nothing"),
            "not a WAV file",
        ),
        (write(at, "empty.wav", b""), "not a WAV file"),
        (
            write(at, "silent.wav", &header(1, 8000, 0)),
            "holds no audio",
        ),
        (
            write(
                at,
                "three.wav",
                &[header(3, 8000, 12), vec![0; 12]].concat(),
            ),
            "3 channels; a call has one or two",
        ),
        (missing, "cannot read"),
    ] {
        for arguments in [
            vec!["transcribe", &file],
            vec!["demo", &file, "--exit", "--data", &data],
            vec!["call", &file],
        ] {
            let (status, stdout, stderr) = coach(&arguments, &[]).await;
            assert!(!status.success(), "{arguments:?}");
            assert!(
                stderr.contains(reason) && stderr.contains(&file),
                "{arguments:?}: {stderr}"
            );
            assert!(stdout.is_empty(), "{arguments:?}: {stdout}");
        }
    }
}

#[tokio::test]
async fn an_unknown_language_is_refused_and_the_known_ones_named() {
    for command in ["transcribe", "call", "demo"] {
        let (status, _, stderr) = coach(&[command, "x.wav", "--language", "tlh"], &[]).await;
        assert_eq!(status.code(), Some(2), "{command}");
        for language in ["auto", "en", "es", "fr", "zh"] {
            assert!(stderr.contains(language), "{command}: {stderr}");
        }
    }
}

#[tokio::test]
async fn a_vocabulary_that_is_none_is_refused_with_its_file_and_every_reason() {
    let folder = tempfile::tempdir().unwrap();
    let sample = harness::checkout().join("producers/samples/en.wav");
    let sample = sample.display().to_string();
    let missing = folder.path().join("missing.txt").display().to_string();
    let bad = write(folder.path(), "bad.txt", b"Brightline\nx\n<|en|>\n");
    for (file, reasons) in [
        (missing, vec!["No such file"]),
        (bad, vec!["name 2, \"x\"", "name 3, \"<|en|>\""]),
    ] {
        let arguments = ["transcribe", &sample, "--vocabulary", &file];
        let (status, stdout, stderr) = coach(&arguments, &[]).await;
        assert!(!status.success() && stdout.is_empty(), "{stdout}");
        assert!(stderr.contains(&file), "{stderr}");
        for reason in reasons {
            assert!(stderr.contains(reason), "{reason} in {stderr}");
        }
    }
}

#[tokio::test]
async fn a_missing_model_is_named_with_the_way_to_fetch_it() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().display().to_string();
    let sample = harness::checkout()
        .join("producers/samples/en.wav")
        .display()
        .to_string();
    for arguments in [
        vec!["transcribe", &sample],
        vec!["analyze"],
        vec!["demo", "--exit", "--data", &cache],
    ] {
        let (status, _, stderr) = coach(&arguments, &[("SALES_COACH_CACHE", &cache)]).await;
        assert!(!status.success(), "{arguments:?}");
        assert!(stderr.contains("make models"), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn every_error_of_a_configuration_is_reported_at_once_and_secrets_never() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[kafka]\nbootstrap = 7\nbotstrap = 'x'\n[gateway]\ntoken_secret = 'hush-hush-hush'\n[coching]\n";
    let file = write(folder.path(), "bad.toml", text.as_bytes());
    let (status, stdout, stderr) = coach(&["config", "check", "--config", &file], &[]).await;
    assert!(!status.success());
    for word in ["kafka.bootstrap", "botstrap", "coching", "bad.toml"] {
        assert!(
            stderr.contains(word) || stdout.contains(word),
            "{word}: {stderr}{stdout}"
        );
    }
    let text = "[gateway]\ntoken_secret = 'hush-hush-hush-hush-hush-hush-hush'\n";
    let file = write(folder.path(), "good.toml", text.as_bytes());
    let (status, stdout, stderr) = coach(&["config", "show", "--config", &file], &[]).await;
    assert!(status.success(), "{stderr}");
    assert!(
        stdout.contains("[kafka]") && !stdout.contains("hush"),
        "{stdout}"
    );
}

/// Starts `coach call` of the sample and waits for `words` on standard error.
async fn waits_and_says(environment: &[(&str, &str)], words: &[&str]) {
    let sample = harness::checkout()
        .join("producers/samples/en.wav")
        .display()
        .to_string();
    let mut process = Process::spawn(COACH, &["call", &sample], environment);
    harness::eventually(SOON, &format!("{words:?} on standard error"), async || {
        let stderr = process.stderr();
        words.iter().all(|word| stderr.contains(word)).then_some(())
    })
    .await;
    assert!(process.exited().is_none(), "it waits on");
    process.signal(Signal::Interrupt);
    let status = process.wait(SOON).await;
    assert_eq!(status.code(), Some(130), "{}", process.stderr());
}

#[tokio::test]
async fn unreachable_brokers_are_waited_for_and_ctrl_c_ends_the_wait() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("coach.sqlite").display());
    let broker = format!("127.0.0.1:{}", harness::free_port());
    let key = MasterKey::generate();
    let environment = [
        ("SALES_COACH__DATABASE__URL", database.as_str()),
        ("SALES_COACH__KAFKA__BOOTSTRAP", &broker),
        ("SALES_COACH_MASTER_KEY", &key),
    ];
    waits_and_says(&environment, &["kafka", &broker]).await;
}

#[tokio::test]
async fn an_unreachable_database_is_waited_for_and_its_password_not_told() {
    let port = harness::free_port();
    let url = format!("postgres://coach:hush-hush@127.0.0.1:{port}/coach");
    let key = MasterKey::generate();
    let environment = [
        ("SALES_COACH__DATABASE__URL", url.as_str()),
        ("SALES_COACH_MASTER_KEY", &key),
    ];
    waits_and_says(
        &environment,
        &["database is unreachable", &port.to_string()],
    )
    .await;
}

#[tokio::test]
async fn without_a_master_key_nothing_is_sealed_and_the_way_to_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("coach.sqlite").display());
    let sample = harness::checkout()
        .join("producers/samples/en.wav")
        .display()
        .to_string();
    for key in ["", "too-short"] {
        let environment = [
            ("SALES_COACH__DATABASE__URL", database.as_str()),
            ("SALES_COACH_MASTER_KEY", key),
        ];
        let (status, _, stderr) = coach(&["call", &sample], &environment).await;
        assert!(!status.success());
        assert!(
            stderr.contains("openssl rand -base64 32"),
            "{key:?}: {stderr}"
        );
    }
}

#[tokio::test]
async fn with_another_master_key_than_the_databases_nothing_starts_and_both_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("coach.sqlite").display());
    let settings = DatabaseSettings {
        url: DatabaseUrl::new(url.as_str()),
        ..DatabaseSettings::default()
    };
    let pool = database::connect(&settings).await.unwrap();
    let (ours, theirs) = (MasterKey::generate(), MasterKey::generate());
    let keys = DatabaseKeys::open(pool.clone()).await.unwrap();
    let sealer = Sealer::new(MasterKey::from_base64(&ours).unwrap(), keys);
    sealer.create("acme", "call-1").await.unwrap();

    let sample = harness::checkout().join("producers/samples/en.wav");
    let broker = format!("127.0.0.1:{}", harness::free_port());
    let environment = [
        ("SALES_COACH__DATABASE__URL", url.as_str()),
        ("SALES_COACH__KAFKA__BOOTSTRAP", &broker),
        ("SALES_COACH_MASTER_KEY", &theirs),
    ];
    for command in [
        &["tail", "calls.transcript", "--unseal"][..],
        &["run", "insights"],
        &["call", &sample.display().to_string()],
    ] {
        let (status, stdout, stderr) = coach(command, &environment).await;
        assert!(!status.success() && stdout.is_empty(), "{command:?}");
        assert!(stderr.contains("configure the master key"), "{stderr}");
        for key in [&ours, &theirs] {
            let id = MasterKey::from_base64(key).unwrap().id().to_owned();
            assert!(stderr.contains(&id), "{id} in {stderr}");
            assert!(!stderr.contains(key.as_str()), "a key is told");
        }
    }
    let calls: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM call_keys")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(calls, 1, "a call was sealed with the other key");
}
