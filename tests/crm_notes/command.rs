//! `coach crm` as an administrator meets it.

use std::path::Path;
use std::process::{Output, Stdio};

use crm_servers::hubspot::{self, HubSpot};
use crm_servers::salesforce::{self, Salesforce};
use pipeline::seal::MasterKey;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::scene::{org, portal};

struct Desk {
    folder: tempfile::TempDir,
    key: String,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tenants")).unwrap();
        Self {
            folder,
            key: MasterKey::generate().to_string(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn tenant(&self, yaml: &str) {
        std::fs::write(self.path("tenants/acme.yaml"), yaml).unwrap();
    }

    /// Runs `coach crm`: whether it went well, and all that it printed.
    async fn coach(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let broker = format!("127.0.0.1:{}", harness::free_port());
        let mut child = Command::new(env!("CARGO_BIN_EXE_coach"))
            .arg("crm")
            .args(arguments)
            .env(
                "SALES_COACH__DATABASE__URL",
                format!("sqlite:{}", self.path("coach.db")),
            )
            .env("SALES_COACH__KAFKA__BOOTSTRAP", broker)
            .env("SALES_COACH__CRM__TENANTS", self.path("tenants"))
            .env("SALES_COACH_MASTER_KEY", &self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().await.unwrap();
        let printed = [stdout, stderr].concat();
        (status.success(), String::from_utf8(printed).unwrap())
    }
}

/// Whether any file below a folder holds this text.
fn lies_in(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        path.is_file() && {
            let bytes = std::fs::read(path).unwrap();
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_must_be_created_and_no_secret_is_told_or_lies_in_the_clear() {
    let desk = Desk::new();
    let (success, said) = desk.coach(&["check"], "").await;
    assert!(!success && said.contains("docs/crm.md"), "{said}");

    let bare = HubSpot::start(hubspot::Setup::default()).await;
    let token = bare.setup().private_app_token.clone();
    desk.tenant(&format!("hubspot: {{url: '{}'}}\n", bare.url()));
    let (success, said) = desk.coach(&["check"], "").await;
    assert!(
        !success && said.contains("coach crm secret acme hubspot"),
        "{said}"
    );
    let (success, said) = desk.coach(&["secret", "acme", "hubspot"], &token).await;
    assert!(success && !said.contains(&token), "{said}");
    assert!(!lies_in(desk.folder.path(), &token));
    let (success, said) = desk.coach(&["check", "acme"], "").await;
    assert!(!success, "{said}");
    for words in ["sales_coach_key", "Require unique values"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let ready = portal().await;
    desk.tenant(&format!("hubspot: {{url: '{}'}}\n", ready.url()));
    let (success, said) = desk.coach(&["check", "acme"], "").await;
    assert!(success && !said.contains(&token), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_the_mapping_with_what_salesforce_describes() {
    let desk = Desk::new();
    for (org, good) in [
        (Salesforce::start(salesforce::Setup::default()).await, false),
        (org().await, true),
    ] {
        desk.tenant(&format!(
            "salesforce: {{url: '{}', client_id: {}, username: {}}}\n",
            org.url(),
            org.setup().client_id,
            org.setup().username
        ));
        let key = org.private_key();
        let (kept, said) = desk.coach(&["secret", "acme", "salesforce"], key).await;
        assert!(kept && !said.contains("PRIVATE"), "{said}");
        let (success, said) = desk.coach(&["check", "acme"], "").await;
        assert_eq!(success, good, "{said}");
        if !good {
            for words in [
                "create Call_Coaching__c.Call_Key__c: Text(36), with External ID and Unique on",
                "create Call_Coaching__c.Note__c: Long Text Area(32000)",
            ] {
                assert!(said.contains(words), "{words} in {said}");
            }
        }
    }
}
