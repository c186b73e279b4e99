//! A section's values, tried one key at a time so that every wrong one is named.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Config, ConfigError, ConfigErrors, Secret, nested};
use crate::{OpenSink, Stage};

/// A section that some part of the program reads.
#[derive(Clone, Copy)]
pub struct ConfigSection {
    /// Its name in the file.
    pub name: &'static str,
    /// Finds every error in it.
    pub check: fn(&Config) -> Vec<ConfigError>,
    /// What is in force in it, secrets hidden.
    pub show: fn(&Config) -> Result<Table, ConfigErrors>,
}

/// A type that a section is read into.
///
/// Implemented by naming the section: `impl Section for KafkaSettings { const NAME: &'static str
/// = "kafka"; }`. The type must fill missing keys from its default and deny unknown ones:
/// `#[serde(default, deny_unknown_fields)]`, nested tables too.
pub trait Section: DeserializeOwned + Serialize + Default {
    /// The section's name.
    const NAME: &'static str;

    /// What is wrong though every key is right for itself, one line each. Asked only when the
    /// section is set at all: a process without this part needs none of it.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

impl ConfigSection {
    /// The section that `S` reads.
    pub const fn of<S: Section>() -> Self {
        Self {
            name: S::NAME,
            check: |config| match read::<S>(config, S::NAME) {
                Ok(settings) if config.sets(S::NAME) => problems(config, &settings),
                Ok(_) => Vec::new(),
                Err(errors) => errors.0,
            },
            show: |config| show::<S>(config, S::NAME),
        }
    }

    /// The section of stage `S`.
    pub const fn of_stage<S: Stage>() -> Self {
        Self {
            name: S::NAME,
            check: |config| check::<S::Settings>(config, S::NAME),
            show: |config| show::<S::Settings>(config, S::NAME),
        }
    }

    /// The section of sink `S`.
    pub const fn of_sink<S: OpenSink>() -> Self {
        Self {
            name: S::NAME,
            check: |config| check::<S::Settings>(config, S::NAME),
            show: |config| show::<S::Settings>(config, S::NAME),
        }
    }
}

fn check<T: DeserializeOwned + Default>(config: &Config, name: &str) -> Vec<ConfigError> {
    match read::<T>(config, name) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0,
    }
}

fn problems<S: Section>(config: &Config, settings: &S) -> Vec<ConfigError> {
    let problems = settings.problems().into_iter();
    problems.map(|text| config.error(S::NAME, text)).collect()
}

fn show<T: DeserializeOwned + Serialize + Default>(
    config: &Config,
    name: &str,
) -> Result<Table, ConfigErrors> {
    let settings: T = read(config, name)?;
    let mut table = Table::try_from(settings)
        .map_err(|error| config.error(name, format!("cannot be shown: {error}")))?;
    tidy(&mut table);
    Ok(table)
}

/// Hides what is secret by its name, for tables that take any key, like `[kafka.options]`. Shows
/// 0.35 as such, though as an `f32` it is 0.349999994.
fn tidy(table: &mut Table) {
    const SECRET: [&str; 4] = ["password", "secret", "key.pem", "jaas"];
    for (key, value) in table.iter_mut() {
        match value {
            Value::Table(inner) => tidy(inner),
            Value::Float(number) => *number = (*number * 1e6).round() / 1e6,
            Value::String(text) if SECRET.iter().any(|part| key.contains(part)) => {
                *text = Secret::new(text.as_str()).to_string();
            }
            _ => {}
        }
    }
}

/// Reads a section.
pub(super) fn read<T: DeserializeOwned + Default>(
    config: &Config,
    name: &str,
) -> Result<T, ConfigErrors> {
    let mut errors = Vec::new();
    let mut table = match config.table.get(name) {
        Some(Value::Table(table)) => table.clone(),
        _ => Table::new(),
    };
    let source = config.source();
    for (key, value) in &table {
        try_key::<T>(&source, name, std::slice::from_ref(key), value, &mut errors);
    }
    for variable in &config.environment {
        let [section, path @ ..] = variable.path.as_slice() else {
            continue;
        };
        if section != name {
            continue;
        }
        match typed::<T>(path, &variable.value) {
            Ok(value) => put(&mut table, path, value),
            Err(reason) => {
                let key = format!("{name}.{}", path.join("."));
                errors.push(ConfigError::new(&variable.name, key, reason));
            }
        }
    }
    if let Some(errors) = Some(errors).filter(|errors| !errors.is_empty()) {
        return Err(ConfigErrors(errors));
    }
    // Each key is right for itself; what is left is what keys say about each other.
    T::deserialize(table).map_err(|error| ConfigError::new(source, name, reason(&error)).into())
}

/// Tries one key alone; when a table is wrong, each of its keys.
fn try_key<T: DeserializeOwned>(
    source: &str,
    section: &str,
    path: &[String],
    value: &Value,
    errors: &mut Vec<ConfigError>,
) {
    let Err(error) = T::deserialize(nested(path, value.clone())) else {
        return;
    };
    let before = errors.len();
    if let Value::Table(table) = value {
        for (key, value) in table {
            let path = [path, std::slice::from_ref(key)].concat();
            try_key::<T>(source, section, &path, value, errors);
        }
    }
    if errors.len() == before {
        let key = format!("{section}.{}", path.join("."));
        errors.push(ConfigError::new(source, key, reason(&error)));
    }
}

/// The value of a variable in the type its key has: a number, a truth value or an array where
/// that fits, else text.
fn typed<T: DeserializeOwned>(path: &[String], text: &str) -> Result<Value, String> {
    let plain = Value::String(text.to_owned());
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    let mut failed = None;
    for value in parsed.into_iter().chain([plain]) {
        match T::deserialize(nested(path, value.clone())) {
            Ok(_) => return Ok(value),
            Err(error) => failed = failed.or(Some(reason(&error))),
        }
    }
    Err(failed.unwrap_or_default())
}

fn put(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key).or_insert_with(|| Table::new().into());
            match inner {
                Value::Table(inner) => put(inner, rest, value),
                other => *other = nested(rest, value).into(),
            }
        }
    }
}

/// What serde says, without its own account of where.
fn reason(error: &toml::de::Error) -> String {
    let text = error.message().trim();
    text.lines().next().unwrap_or_default().to_owned()
}
