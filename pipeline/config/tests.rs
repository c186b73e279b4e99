use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Coaching {
    playbook: String,
    per_minute: u32,
    #[serde(with = "duration")]
    deadline: std::time::Duration,
    languages: Vec<String>,
    key: Secret,
    limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    most: Option<i64>,
    share: f64,
}

impl Default for Coaching {
    fn default() -> Self {
        Self {
            playbook: "default".into(),
            per_minute: 3,
            deadline: std::time::Duration::from_secs(4),
            languages: vec!["en".into()],
            key: Secret::default(),
            limits: Limits::default(),
        }
    }
}

impl Section for Coaching {
    const NAME: &'static str = "coaching";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Store {
    url: DatabaseUrl,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::new("sqlite:coach.db"),
        }
    }
}

impl Section for Store {
    const NAME: &'static str = "store";

    fn problems(&self) -> Vec<String> {
        match self.url.reveal().contains("mode=memory") {
            true => vec!["a database in memory keeps nothing".to_owned()],
            false => Vec::new(),
        }
    }
}

const KNOWN: &[ConfigSection] = &[
    ConfigSection::of::<Coaching>(),
    ConfigSection::of::<Store>(),
    ConfigSection::of::<ModelSettings>(),
];

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coach.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(Some(&file), environment)
}

#[test]
fn what_nobody_sets_has_its_default() {
    let config = load("", &[]).unwrap();
    config.check(KNOWN).unwrap();
    assert_eq!(
        config.section::<Coaching>("coaching").unwrap(),
        Coaching::default()
    );
}

#[test]
fn the_environment_goes_before_the_file_and_takes_the_keys_type() {
    let text = "[coaching]\nper_minute = 5\nplaybook = 'file'\ndeadline = '1s'\n[coaching.limits]\nmost = 1\n";
    let environment = [
        ("SALES_COACH__COACHING__PER_MINUTE", "7"),
        ("SALES_COACH__COACHING__PLAYBOOK", "123"),
        ("SALES_COACH__COACHING__LANGUAGES", "['es', 'fr']"),
        ("SALES_COACH__COACHING__LIMITS__SHARE", "0.5"),
        ("SALES_COACH__STORE__URL", "postgres://coach:hush@db/coach"),
        ("SALES_COACH_CACHE", "/var/cache/coach"),
        ("PATH", "/bin"),
    ];
    let config = load(text, &environment).unwrap();
    config.check(KNOWN).unwrap();
    let coaching: Coaching = config.section("coaching").unwrap();
    assert_eq!(coaching.per_minute, 7);
    assert_eq!(coaching.playbook, "123");
    assert_eq!(coaching.deadline, std::time::Duration::from_secs(1));
    assert_eq!(coaching.languages, ["es", "fr"]);
    assert_eq!(
        coaching.limits,
        Limits {
            most: Some(1),
            share: 0.5
        }
    );
    assert_eq!(
        config.section::<Store>("store").unwrap().url.reveal(),
        "postgres://coach:hush@db/coach"
    );
    assert_eq!(config.cache().unwrap(), Path::new("/var/cache/coach"));
}

#[test]
fn every_error_is_reported_at_once_with_its_place_and_what_was_expected() {
    let text = "
[coaching]
per_minute = 'many'
playbok = 'x'
deadline = 'soon'
[coaching.limits]
most = 'all'
shar = 1.0
[store]
url = 'mysql://x'
[gatway]
port = 1
";
    let environment = [
        ("SALES_COACH__COACHING__KEY", "fine"),
        ("SALES_COACH__COACHING__LANGUAGES", "es"),
        ("SALES_COACH__COACHNG__KEY", "x"),
    ];
    let config = load(text, &environment).unwrap();
    let errors = config.check(KNOWN).unwrap_err();
    let found: BTreeMap<_, _> = errors.0.iter().map(|e| (e.key.as_str(), e)).collect();
    let keys: Vec<_> = found.keys().copied().collect();
    assert_eq!(
        keys,
        [
            "coaching.deadline",
            "coaching.languages",
            "coaching.limits.most",
            "coaching.limits.shar",
            "coaching.per_minute",
            "coaching.playbok",
            "coachng",
            "gatway",
            "store.url",
        ]
    );
    assert_eq!(errors.0.len(), keys.len(), "each error once: {errors}");
    assert!(found["coaching.per_minute"].source.ends_with("coach.toml"));
    assert!(
        found["coaching.per_minute"]
            .expected
            .contains("expected u32"),
        "{errors}"
    );
    assert!(
        found["coaching.playbok"]
            .expected
            .contains("expected one of `playbook`")
    );
    assert!(
        found["coaching.deadline"]
            .expected
            .contains("expected a duration like")
    );
    assert_eq!(
        found["coaching.languages"].source,
        "SALES_COACH__COACHING__LANGUAGES"
    );
    assert!(found["store.url"].expected.contains("postgres://"));
    assert!(found["gatway"].expected.contains("coaching, store, models"));
    assert_eq!(found["coachng"].source, "SALES_COACH__COACHNG__KEY");
    assert_eq!(
        config.section::<Coaching>("coaching").unwrap_err().0.len(),
        6
    );
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named_with_the_line() {
    let missing = Config::load(Some(Path::new("/nowhere/coach.toml")), [])
        .err()
        .unwrap();
    assert!(
        missing
            .to_string()
            .contains("/nowhere/coach.toml: cannot be read"),
        "{missing}"
    );
    let broken = load("[seal]\n\nmaster_key = hush-hush\n", &[])
        .err()
        .unwrap()
        .to_string();
    assert!(broken.contains("coach.toml, line 3"), "{broken}");
    assert!(!broken.contains("hush"), "{broken}");
    let loose = load("a = 1\nb = 2\n", &[]).err().unwrap();
    assert_eq!(loose.0.len(), 2);
    let name = load("", &[("SALES_COACH__KAFKA", "x")]).err().unwrap();
    assert!(
        name.to_string().contains("SALES_COACH__SECTION__KEY"),
        "{name}"
    );
}

#[test]
fn what_is_shown_is_in_force_and_hides_secrets() {
    let text = "[coaching]\nkey = 'hush'\n[store]\nurl = 'postgres://coach:hush@db:5432/coach?sslpassword=hush&sslmode=require'\n";
    let config = load(text, &[("SALES_COACH__COACHING__PER_MINUTE", "9")]).unwrap();
    let shown = config.show(KNOWN).unwrap();
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("per_minute = 9"), "{shown}");
    assert!(shown.contains("playbook = \"default\""), "{shown}");
    assert!(shown.contains("key = \"***\""), "{shown}");
    assert!(shown.contains("postgres://coach:***@db:5432/coach?sslpassword=***&sslmode=require"));
    let debug = format!("{:?}", config.section::<Coaching>("coaching").unwrap());
    assert!(!debug.contains("hush"), "{debug}");
    let wrong = load("[coaching]\nkey = 4711\n", &[]).unwrap();
    let error = wrong.check(KNOWN).unwrap_err().to_string();
    assert!(
        error.contains("coaching.key") && !error.contains("4711"),
        "{error}"
    );
}

#[test]
fn models_lie_in_the_users_cache_unless_told_otherwise() {
    let cache = |environment: &[(&str, &str)]| load("", environment).unwrap().cache();
    let (home, xdg) = (("HOME", "/home/ana"), ("XDG_CACHE_HOME", "/fast"));
    assert_eq!(
        cache(&[home]).unwrap(),
        Path::new("/home/ana/.cache/sales-coach")
    );
    assert_eq!(cache(&[home, xdg]).unwrap(), Path::new("/fast/sales-coach"));
    assert!(
        cache(&[])
            .unwrap_err()
            .to_string()
            .contains("SALES_COACH_CACHE")
    );
}

#[test]
fn options_of_a_command_go_before_the_environment() {
    let mut config = load("", &[("SALES_COACH__COACHING__PER_MINUTE", "9")]).unwrap();
    config.set("coaching.per_minute", "2");
    assert_eq!(
        config.section::<Coaching>("coaching").unwrap().per_minute,
        2
    );
}

#[test]
fn secrets_among_librdkafkas_own_settings_are_hidden_too() {
    let text = "[kafka.options]\n'sasl.password' = 'hush'\n'sasl.username' = 'coach'\n[seal]\nmaster_key = 'hush'\n";
    let options = "{ 'ssl.key.password' = 'hush', 'client.rack' = 'a' }";
    let config = load(text, &[("SALES_COACH__KAFKA__OPTIONS", options)]).unwrap();
    let shown = config.show(&SECTIONS).unwrap();
    assert!(
        !shown.contains("hush") && shown.contains("\"client.rack\" = \"a\""),
        "{shown}"
    );
    let config = load(text, &[]).unwrap();
    let shown = config.show(&SECTIONS).unwrap();
    assert!(
        !shown.contains("hush") && shown.contains("\"sasl.username\" = \"coach\""),
        "{shown}"
    );
}

#[test]
fn a_section_judges_its_keys_together() {
    let config = load("[store]\nurl = 'sqlite:a?mode=memory'\n", &[]).unwrap();
    let error = config.check(KNOWN).unwrap_err().to_string();
    assert!(
        error.ends_with("store: a database in memory keeps nothing"),
        "{error}"
    );
}
