//! A tenant's own names, products' and competitors', as they are to be spelled.

use std::collections::HashMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

/// Most names of one vocabulary.
pub const MOST_NAMES: usize = 200;
/// Characters of a name, at least and at most.
pub const CHARACTERS: std::ops::RangeInclusive<usize> = 2..=40;
/// What a name may hold beside letters, digits and spaces.
const MARKS: &str = "'’.&+-/!·";

/// Names that are raised in recognition, each spelled as it is to be written.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Vocabulary(Vec<String>);

/// Everything that is wrong with a vocabulary.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct VocabularyError(Vec<String>);

impl Vocabulary {
    /// These names, without spaces around them.
    ///
    /// # Errors
    /// Every name that is too short or long, holds what no name holds, or comes twice; or that
    /// they are too many.
    pub fn new(names: impl IntoIterator<Item = String>) -> Result<Self, VocabularyError> {
        let names: Vec<String> = names.into_iter().map(|n| n.trim().to_owned()).collect();
        let mut problems = Vec::new();
        if names.len() > MOST_NAMES {
            problems.push(format!("{} names: at most {MOST_NAMES}", names.len()));
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (number, name) in names.iter().enumerate().map(|(at, name)| (at + 1, name)) {
            if let Some(problem) = problem(name) {
                problems.push(format!("name {number}, {name:?}: {problem}"));
            } else if let Some(before) = seen.insert(name.to_lowercase(), number) {
                problems.push(format!(
                    "name {number}, {name:?}: the same as name {before}"
                ));
            }
        }
        if problems.is_empty() {
            return Ok(Self(names));
        }
        Err(VocabularyError(problems))
    }

    /// The names of a text, one a line; empty lines and those that begin with # are none.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn from_lines(text: &str) -> Result<Self, VocabularyError> {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self::new(names.map(str::to_owned))
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

fn problem(name: &str) -> Option<String> {
    let length = name.chars().count();
    if !CHARACTERS.contains(&length) {
        let (least, most) = (CHARACTERS.start(), CHARACTERS.end());
        return Some(format!("{length} characters: {least} to {most}"));
    }
    let odd = |&c: &char| !(c.is_alphanumeric() || c == ' ' || MARKS.contains(c));
    if let Some(odd) = name.chars().find(odd) {
        return Some(format!(
            "{odd:?} in it: letters, digits, spaces and {MARKS}"
        ));
    }
    let lacks = !name.chars().any(char::is_alphabetic);
    lacks.then(|| "no letter in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_one_a_line() {
        let text = "\u{feff}# ours\nBrightline\r\n\n  L'Oréal & Co. \n云帆科技\n";
        let vocabulary = Vocabulary::from_lines(text).unwrap();
        assert_eq!(
            vocabulary.names(),
            ["Brightline", "L'Oréal & Co.", "云帆科技"]
        );
    }

    #[test]
    fn every_name_that_cannot_be_one_is_named_at_once() {
        let long = "x".repeat(41);
        let names = [
            "Brightline",
            "a",
            &long,
            "<|endoftext|>",
            "4711",
            " brightline ",
        ];
        let error = Vocabulary::new(names.map(str::to_owned)).unwrap_err();
        let text = error.to_string();
        for part in [
            "name 2, \"a\": 1 characters: 2 to 40",
            "name 3",
            "name 4, \"<|endoftext|>\": '<' in it",
            "name 5, \"4711\": no letter in it",
            "name 6, \"brightline\": the same as name 1",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn too_many_names_are_refused() {
        let names = |count: usize| (0..count).map(|n| format!("Name {n}"));
        assert!(Vocabulary::new(names(MOST_NAMES)).is_ok());
        let error = Vocabulary::new(names(MOST_NAMES + 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("201 names: at most 200"), "{error}");
    }
}
