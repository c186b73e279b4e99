//! Values that are used but never shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A secret: shown as `***` wherever it is printed, logged or serialized; as nothing when it is
/// empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What is shown in place of a secret.
    pub const HIDDEN: &str = "***";

    /// A secret of that text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { Self::HIDDEN })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Serde's own error would print the value.
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| de::Error::custom("expected a text in quotes"))
    }
}

/// The URL of a database, shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// That URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for the one place that connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // postgres://user:password@host/name?…&password=…
        let (base, query) = match self.0.split_once('?') {
            Some((base, query)) => (base, Some(query)),
            None => (self.0.as_str(), None),
        };
        match base.split_once("://") {
            Some((scheme, rest)) => match rest.rsplit_once('@') {
                Some((user, host)) => {
                    let (name, password) = match user.split_once(':') {
                        Some((name, _)) => (name, true),
                        None => (user, false),
                    };
                    let hidden = if password { ":***" } else { "" };
                    write!(f, "{scheme}://{name}{hidden}@{host}")?;
                }
                None => f.write_str(base)?,
            },
            None => f.write_str(base)?,
        }
        for (index, pair) in query.iter().flat_map(|q| q.split('&')).enumerate() {
            f.write_str(if index == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((key, _)) if key.contains("password") => {
                    write!(f, "{key}={}", Secret::HIDDEN)?
                }
                _ => f.write_str(pair)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "expected postgres://USER:PASSWORD@HOST:PORT/NAME or sqlite:FILE";
        let url = String::deserialize(deserializer).map_err(|_| de::Error::custom(wanted))?;
        let known = ["postgres://", "postgresql://", "sqlite:"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(de::Error::custom(wanted));
        }
        Ok(Self(url))
    }
}
