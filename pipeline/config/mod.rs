//! The one place that reads settings: a TOML file, and the environment laid over it.
//!
//! A section is a table of the file with a type in the code ([`ConfigSection::of`]). A value of
//! the environment, `SALES_COACH__SECTION__KEY=value`, goes before the file's. Unknown sections
//! and keys are refused; [`Config::check`] reports every error of all sections at once.

mod error;
mod secret;
mod section;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::database::DatabaseSettings;
use crate::kafka::Kafka;
use crate::registry::RegistrySettings;
use crate::runner;
use crate::seal::SealSettings;
use crate::telemetry::TelemetrySettings;

pub use error::{ConfigError, ConfigErrors};
pub use secret::{DatabaseUrl, Secret};
pub use section::{ConfigSection, Section};

/// Where the file is looked for when none is named.
pub const PLACES: [&str; 2] = ["sales-coach.toml", "/etc/sales-coach/sales-coach.toml"];

/// What every environment variable for a key begins with; `__` also parts section and key.
const PREFIX: &str = "SALES_COACH__";

/// Variables with a name of their own, and the key each stands for.
const SHORT: [(&str, &str); 2] = [
    ("SALES_COACH_MASTER_KEY", "seal.master_key"),
    ("SALES_COACH_CACHE", "models.folder"),
];

/// The sections of every process; stages and the gateway bring their own.
pub const SECTIONS: [ConfigSection; 7] = [
    ConfigSection::of::<Kafka>(),
    ConfigSection::of::<runner::Settings>(),
    ConfigSection::of::<DatabaseSettings>(),
    ConfigSection::of::<SealSettings>(),
    ConfigSection::of::<RegistrySettings>(),
    ConfigSection::of::<TelemetrySettings>(),
    ConfigSection::of::<ModelSettings>(),
];

impl Section for Kafka {
    const NAME: &'static str = "kafka";
}

impl Section for runner::Settings {
    const NAME: &'static str = "runner";
}

/// The settings of one process, as they were written; [`Config::section`] gives them types.
#[derive(Clone, Default)]
pub struct Config {
    file: Option<PathBuf>,
    table: Table,
    environment: Vec<Variable>,
    cache: Option<PathBuf>,
}

/// One variable of the environment that sets a key.
#[derive(Clone)]
struct Variable {
    name: String,
    path: Vec<String>,
    value: String,
}

/// Where models and other fetched files lie.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The folder that `make models` filled; none: `sales-coach` in the user's cache folder.
    pub folder: Option<PathBuf>,
}

impl Section for ModelSettings {
    const NAME: &'static str = "models";
}

impl Config {
    /// Reads the file at `path`, else the first of [`PLACES`] that exists, else nothing; then
    /// lays the environment over it.
    ///
    /// # Errors
    /// When the file cannot be read or is no TOML, or a variable names no key. What the sections
    /// hold is judged by [`Config::section`] and [`Config::check`].
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        let file = match path {
            Some(path) => Some(path.to_owned()),
            None => PLACES.iter().map(PathBuf::from).find(|path| path.is_file()),
        };
        let mut config = Self {
            table: match &file {
                Some(file) => read(file)?,
                None => Table::new(),
            },
            file,
            ..Self::default()
        };
        config.overlay(environment)?;
        Ok(config)
    }

    /// The settings of a section, with their defaults where nothing is said.
    ///
    /// # Errors
    /// Every key of the section that is unknown or holds the wrong value.
    pub fn section<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, ConfigErrors> {
        section::read(self, name)
    }

    /// Checks all sections.
    ///
    /// # Errors
    /// Every error there is, unknown sections among them.
    pub fn check(&self, known: &[ConfigSection]) -> Result<(), ConfigErrors> {
        let mut errors = self.unknown(known);
        for section in known {
            errors.extend((section.check)(self));
        }
        ConfigErrors::none_or(errors)
    }

    /// What is in force, as TOML, with secrets hidden.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn show(&self, known: &[ConfigSection]) -> Result<String, ConfigErrors> {
        self.check(known)?;
        let mut shown = Table::new();
        for section in known {
            shown.insert(section.name.to_owned(), (section.show)(self)?.into());
        }
        toml::to_string(&shown).map_err(|error| self.error("", error.to_string()).into())
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Sets a key as the environment does: how a command's own options go before everything.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.environment.push(Variable {
            name: "command line".to_owned(),
            path: key.split('.').map(str::to_owned).collect(),
            value: value.into(),
        });
    }

    /// The folder where models and other fetched files lie: `[models] folder`, else the user's
    /// cache folder.
    ///
    /// # Errors
    /// When there is neither.
    pub fn cache(&self) -> Result<PathBuf, ConfigErrors> {
        let settings: ModelSettings = self.section(ModelSettings::NAME)?;
        settings
            .folder
            .or_else(|| self.cache.clone())
            .ok_or_else(|| {
                let wanted = "no home folder to keep models in: set it, or SALES_COACH_CACHE";
                self.error("models.folder", wanted).into()
            })
    }

    fn overlay(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        let (mut xdg, mut home) = (None, None);
        for (name, value) in environment {
            let short = SHORT.iter().find(|(short, _)| *short == name);
            let path: Vec<String> = match (name.as_str(), short) {
                (_, Some((_, key))) => key.split('.').map(str::to_owned).collect(),
                ("XDG_CACHE_HOME", _) if !value.is_empty() => {
                    xdg = Some(PathBuf::from(value));
                    continue;
                }
                ("HOME", _) if !value.is_empty() => {
                    home = Some(PathBuf::from(value).join(".cache"));
                    continue;
                }
                (name, None) => match name.strip_prefix(PREFIX) {
                    Some(rest) => rest.split("__").map(str::to_lowercase).collect(),
                    None => continue,
                },
            };
            if path.len() < 2 || path.iter().any(String::is_empty) {
                let wanted = "expected a name like SALES_COACH__SECTION__KEY";
                errors.push(ConfigError::new(name, "", wanted));
            } else if !value.is_empty() || short.is_none() {
                self.environment.push(Variable { name, path, value });
            }
        }
        self.environment.sort_by(|a, b| a.name.cmp(&b.name));
        self.cache = xdg.or(home).map(|base| base.join("sales-coach"));
        ConfigErrors::none_or(errors)
    }

    /// Whether anything of a section is set.
    fn sets(&self, section: &str) -> bool {
        let mut set = self.environment.iter();
        self.table
            .get(section)
            .and_then(Value::as_table)
            .is_some_and(|t| !t.is_empty())
            || set.any(|variable| variable.path.first().is_some_and(|name| name == section))
    }

    fn unknown(&self, known: &[ConfigSection]) -> Vec<ConfigError> {
        let names: Vec<&str> = known.iter().map(|section| section.name).collect();
        let expected = format!("unknown section: expected one of {}", names.join(", "));
        let written = self.table.keys().map(|name| (self.source(), name.clone()));
        let set = self.environment.iter();
        let set = set.filter_map(|v| Some((v.name.clone(), v.path.first()?.clone())));
        written
            .chain(set)
            .filter(|(_, name)| !names.contains(&name.as_str()))
            .map(|(source, name)| ConfigError::new(source, name, expected.clone()))
            .collect()
    }

    fn source(&self) -> String {
        match &self.file {
            Some(file) => file.display().to_string(),
            None => "configuration".to_owned(),
        }
    }

    fn error(&self, key: &str, expected: impl Into<String>) -> ConfigError {
        ConfigError::new(self.source(), key, expected)
    }
}

/// Reads a file into a table. A syntax error is named by its line, never by the line's text,
/// which may hold a secret.
fn read(file: &Path) -> Result<Table, ConfigErrors> {
    let source = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::new(&source, "", format!("cannot be read: {error}")))?;
    let table: Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or(&text).lines().count().max(1);
        let reason = error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned();
        ConfigError::new(format!("{source}, line {line}"), "", reason)
    })?;
    let loose = table.iter().filter(|(_, value)| !value.is_table());
    let loose: Vec<_> = loose
        .map(|(key, _)| ConfigError::new(&source, key, "expected below a [section]"))
        .collect();
    ConfigErrors::none_or(loose).map(|()| table)
}

/// Serde for durations written like `500ms`, `30s` or `2h`, for `#[serde(with = "…")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes `30s`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads `30s`.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_duration(&text).map_err(|_| {
            de::Error::custom(format!(
                "expected a duration like 500ms, 30s or 2h, not {text:?}"
            ))
        })
    }
}

/// A table with the one value at `path`.
fn nested(path: &[String], value: Value) -> Table {
    let mut table = Table::new();
    if let Some((first, rest)) = path.split_first() {
        let value = match rest {
            [] => value,
            rest => nested(rest, value).into(),
        };
        table.insert(first.clone(), value);
    }
    table
}
