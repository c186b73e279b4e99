use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipeline::config::{Config, ConfigSection};
use toml::{Table, Value};

use super::sections;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sales-coach.toml");
    std::fs::write(&file, text).unwrap();
    let secret = "SALES_COACH__GATEWAY__TOKEN_SECRET".to_owned();
    Config::load(Some(&file), [(secret, "x".repeat(32))]).unwrap()
}

/// What the section says when it meets a key below `path` that nobody knows.
fn refusal(section: &ConfigSection, path: &str) -> String {
    let config = load(&format!("[{}{path}]\n'?' = 0\n", section.name));
    let errors = (section.check)(&config);
    errors.iter().map(|error| error.expected.clone()).collect()
}

/// Every key that the section's type has, tables within it with a dot.
fn keys(section: &ConfigSection, path: &str) -> Vec<String> {
    let refusal = refusal(section, path);
    let (_, known) = refusal.split_once("expected").unwrap_or_else(|| {
        panic!(
            "[{}{path}] takes unknown keys: deny_unknown_fields is missing",
            section.name
        )
    });
    let known = known.split('`').skip(1).step_by(2);
    known
        .flat_map(|key| {
            let below = format!("{path}.{key}");
            match self::refusal(section, &below).starts_with("unknown field `?`") {
                true => keys(section, &below),
                false => vec![below.trim_start_matches('.').to_owned()],
            }
        })
        .collect()
}

fn every_key() -> BTreeMap<String, Option<Value>> {
    let config = Config::load(None, []).unwrap();
    let mut all = BTreeMap::new();
    for section in sections() {
        let shown = Value::Table((section.show)(&config).unwrap());
        for key in keys(&section, "") {
            let default = key
                .split('.')
                .try_fold(&shown, |value, part| value.get(part));
            all.insert(format!("{}.{key}", section.name), default.cloned());
        }
    }
    all
}

/// Keys and defaults in the manual's tables.
fn in_the_manual() -> BTreeMap<String, Option<Value>> {
    let text = std::fs::read_to_string(checkout("docs/operators.md")).unwrap();
    let (_, text) = text.split_once("\n## Configuration\n").unwrap();
    let text = text.split("\n## ").next().unwrap();
    let mut section = "";
    let mut all = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("### `[") {
            section = name.trim_end_matches("]`");
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", key, default, ..] = cells[..]
            && let Some(key) = key.strip_prefix('`')
        {
            all.insert(
                format!("{section}.{}", key.trim_end_matches('`')),
                value(default),
            );
        }
    }
    all
}

fn value(cell: &str) -> Option<Value> {
    let text = cell.strip_prefix('`')?.strip_suffix('`')?;
    toml::from_str::<Table>(&format!("value = {text}"))
        .unwrap()
        .remove("value")
}

/// The example file with every key that is commented out put in force.
fn example(in_force: bool) -> String {
    let text = std::fs::read_to_string(checkout("deploy/sales-coach.toml")).unwrap();
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(key) if in_force && is_key(key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn flat(table: &Table, path: &str, all: &mut BTreeMap<String, Value>, known: &[&String]) {
    for (key, value) in table {
        let path = format!("{path}{key}");
        match value {
            Value::Table(inner) if !known.contains(&&path) => {
                flat(inner, &format!("{path}."), all, known);
            }
            value => {
                all.insert(path, value.clone());
            }
        }
    }
}

#[test]
fn the_manual_names_every_key_and_its_true_default() {
    let (manual, code) = (in_the_manual(), every_key());
    let names = |all: &BTreeMap<String, Option<Value>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&manual), names(&code));
    for (key, default) in &code {
        assert_eq!(&manual[key], default, "{key}");
    }
}

#[test]
fn the_example_file_changes_nothing_as_it_is() {
    let (example, none) = (load(&example(false)), load(""));
    let shown = |config: &Config| config.show(&sections()).unwrap();
    assert_eq!(shown(&example), shown(&none));
}

#[test]
fn the_example_file_names_every_key_with_its_default_or_an_example() {
    let text = example(true);
    // The example's folder of the CRMs is read by the check, and is on no machine that only tests.
    let folder = tempfile::tempdir().unwrap();
    let here = text.replace("/etc/sales-coach/crm", folder.path().to_str().unwrap());
    load(&here).check(&sections()).unwrap();
    let code = every_key();
    let mut written = BTreeMap::new();
    let known: Vec<_> = code.keys().collect();
    flat(&toml::from_str(&text).unwrap(), "", &mut written, &known);
    assert_eq!(written.keys().collect::<Vec<_>>(), known);
    for (key, default) in &code {
        if let Some(default) = default {
            assert_eq!(&written[key], default, "{key}");
        }
    }
}

#[test]
fn every_error_of_every_tenant_is_named_at_once() {
    let config = load(
        "[transcription.tenants.acme]\n\
         script = 'cursive'\n\
         vocabulary = ['Brightline', 'x', 'brightline']\n\
         [transcription.tenants.'b.eu']\n\
         vocabulary = ['<|en|>']\n\
         vocabulry = []\n",
    );
    let text = config.check(&sections()).unwrap_err().to_string();
    for part in [
        "transcription.tenants.acme.script: unknown variant `cursive`",
        "transcription.tenants.acme.vocabulary: name 2, \"x\"",
        "name 3, \"brightline\": the same as name 1",
        "transcription.tenants.b.eu.vocabulary: name 1, \"<|en|>\"",
        "transcription.tenants.b.eu.vocabulry: unknown field",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn what_a_tenant_wants_is_shown_as_it_was_written() {
    let text = "[transcription.tenants.acme]\n\
                script = \"traditional\"\n\
                vocabulary = [\"Brightline\", \"台灣大哥大\"]\n";
    let shown = load(text).show(&sections()).unwrap();
    assert!(shown.contains(text), "{shown}");
}
