//! The two scripts of Mandarin.

use std::sync::LazyLock;

use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;
use serde::{Deserialize, Serialize};

/// Script in which Mandarin is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Script {
    /// As on the mainland.
    #[default]
    Simplified,
    /// As in Taiwan.
    Traditional,
}

static TO_SIMPLIFIED: LazyLock<Option<OpenCC>> =
    LazyLock::new(|| OpenCC::from_config(BuiltinConfig::T2s).ok());

/// Whisper writes now one script, now the other, or both: what is Traditional already stays.
static TO_TRADITIONAL: LazyLock<Option<OpenCC>> =
    LazyLock::new(|| OpenCC::from_config(BuiltinConfig::S2tw).ok());

/// The text with its Chinese characters in that script.
pub fn in_script(text: &str, script: Script) -> String {
    let converter = match script {
        Script::Simplified => &TO_SIMPLIFIED,
        Script::Traditional => &TO_TRADITIONAL,
    };
    converter
        .as_ref()
        .map_or_else(|| text.to_owned(), |converter| converter.convert(text))
}

/// The script that a text is in; Traditional when it is in both.
pub fn script_of(text: &str) -> Script {
    if in_script(text, Script::Simplified) == text {
        Script::Simplified
    } else {
        Script::Traditional
    }
}

/// Whether it is a Chinese character.
pub fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_characters() {
        assert_eq!(script_of("我们公司"), Script::Simplified);
        assert_eq!(script_of("我們公司"), Script::Traditional);
        assert_eq!(script_of("OK"), Script::Simplified);
    }
}
