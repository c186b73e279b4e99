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

/// Number of words; of characters in Mandarin, where a run of Latin letters or digits counts as
/// one.
pub fn count_words(text: &str, language: Language) -> i32 {
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’' || c == '-'));
    let words = words.filter(|word| word.chars().any(char::is_alphanumeric));
    let count = match language {
        Language::Zh => words.map(chinese_words).sum(),
        _ => words.count(),
    };
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn chinese_words(word: &str) -> usize {
    let han = |c: char| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3134f}');
    let others = word.split(han).filter(|run| !run.is_empty()).count();
    word.chars().filter(|c| han(*c)).count() + others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_each_script_writes_them() {
        assert_eq!(count_words("well, it's - too expensive", Language::En), 4);
        assert_eq!(count_words("我们用 Salesforce 三年了。", Language::Zh), 7);
        assert_eq!(count_words(" ", Language::Zh), 0);
        assert_eq!(
            count_words("Well, it's a state-of-the-art 24/7 line.", Language::En),
            7
        );
        assert_eq!(count_words("C'est trop cher !", Language::Fr), 3);
        assert_eq!(count_words("我们用 iPhone 15，很贵。", Language::Zh), 7);
        assert_eq!(count_words("...", Language::En), 0);
    }
}
