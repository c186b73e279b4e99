//! `calls.transcript`: what was said, an utterance at a time.

use serde::{Deserialize, Serialize};

use crate::{Item, Language, Sealed, Speaker, Topic, topics};

/// One speaker's words between pauses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Utterance {
    /// Audio channel, from 0.
    pub channel: i32,
    /// Who spoke.
    pub speaker: Speaker,
    /// Where in the call the first word begins, in milliseconds.
    pub start_ms: i64,
    /// Where in the call the last word ends, in milliseconds.
    pub end_ms: i64,
    /// Language spoken.
    #[serde(with = "crate::call::as_text")]
    pub language: Language,
    /// Number of words (characters in Mandarin).
    pub words: i32,
    /// Sealed: the words (UTF-8).
    pub text: Sealed,
}

impl Item for Utterance {
    const TOPIC: Topic = topics::CALLS_TRANSCRIPT;
    const FIELD: &'static str = "utterance";
}

/// Number of words in a text; Mandarin is written without spaces, so there its characters count.
pub fn count_words(text: &str, language: Language) -> i32 {
    let count = match language {
        Language::Zh => text.split_whitespace().map(chinese_words).sum(),
        _ => text
            .split_whitespace()
            .filter(|word| word.chars().any(char::is_alphanumeric))
            .count(),
    };
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Characters of Chinese script, each a word, and runs of other letters, each a word.
fn chinese_words(text: &str) -> usize {
    let (mut count, mut in_word) = (0, false);
    for character in text.chars() {
        let ideograph = matches!(character, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}');
        let letter = character.is_alphanumeric() && !ideograph;
        count += usize::from(ideograph || (letter && !in_word));
        in_word = letter;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_each_script_writes_them() {
        assert_eq!(count_words("well, it's - too expensive", Language::En), 4);
        assert_eq!(count_words("我们用 Salesforce 三年了。", Language::Zh), 7);
        assert_eq!(count_words(" ", Language::Zh), 0);
    }
}
