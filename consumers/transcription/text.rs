//! Makes Whisper's text fit to read, and knows the words it invents.

use std::sync::LazyLock;

use ferrous_opencc::OpenCC;
use ferrous_opencc::config::BuiltinConfig;
use schemas::Language;

/// What Whisper learned from film subtitles and writes when there is nothing to hear. Anywhere in
/// the text.
const CREDITS: &[&str] = &[
    "amara.org",
    "amara org",
    "subtitles by",
    "subtitled by",
    "captions by",
    "transcription by",
    "transcribed by",
    "thanks for watching",
    "thank you for watching",
    "please subscribe",
    "subscribe to my channel",
    "like and subscribe",
    "www.",
    "subtítulos",
    "gracias por ver",
    "suscríbete",
    "suscribete",
    "sous-titr",
    "sous titr",
    "merci d'avoir regardé",
    "abonnez-vous",
    "radio-canada",
    "字幕",
    "订阅",
    "点赞",
    "打赏",
    "谢谢观看",
    "感谢观看",
    "谢谢大家收看",
    "明镜",
    "中文字幕",
    "李宗盛",
    "优优独播剧场",
];

/// The same, as the whole text.
const FILLERS: &[&str] = &[
    "you",
    "bye",
    "bye bye",
    "thank you",
    "thank you very much",
    "thank you so much",
    "thanks",
    "okay",
    "so",
    "the end",
    "oh",
    "hmm",
    "uh",
    "music",
    "applause",
    "silence",
    "gracias",
    "muchas gracias",
    "música",
    "adiós",
    "merci",
    "merci beaucoup",
    "au revoir",
    "musique",
    "谢谢",
    "谢谢大家",
    "再见",
    "嗯",
    "啊",
    "音乐",
];

static TO_SIMPLIFIED: LazyLock<Option<OpenCC>> =
    LazyLock::new(|| OpenCC::from_config(BuiltinConfig::T2s).ok());

/// The text with single spaces and, in Mandarin, in Simplified script with its own punctuation.
pub fn normalise(text: &str, language: Language) -> String {
    let text = text.replace('\u{fffd}', " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if language != Language::Zh {
        return text;
    }
    let text = TO_SIMPLIFIED
        .as_ref()
        .map(|converter| converter.convert(&text))
        .unwrap_or(text);
    set_chinese(&text)
}

/// Whether the text is one that Whisper writes for silence, music or noise.
pub fn is_invented(text: &str) -> bool {
    let text = text.to_lowercase();
    if CREDITS.iter().any(|credit| text.contains(credit)) {
        return true;
    }
    let bare: String = text
        .chars()
        .filter(|c| c.is_alphanumeric() || c.is_whitespace())
        .collect();
    let bare = bare.split_whitespace().collect::<Vec<_>>().join(" ");
    bare.is_empty() || FILLERS.contains(&bare.as_str())
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Punctuation after a Chinese character becomes Chinese; spaces beside one go.
fn set_chinese(text: &str) -> String {
    let mut set = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        let wide = |c: char| is_han(c) || "，。？！：；、".contains(c);
        let c = match c {
            ',' if wide(before) => '，',
            '.' if wide(before) => '。',
            '?' if wide(before) => '？',
            '!' if wide(before) => '！',
            ':' if wide(before) => '：',
            ';' if wide(before) => '；',
            other => other,
        };
        let drop = c == ' ' && (wide(before) || chars.peek().is_some_and(|&next| wide(next)));
        if !drop {
            set.push(c);
            before = c;
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traditional_script_becomes_simplified_with_chinese_punctuation() {
        let text = normalise(
            " 這個價格 太貴了, 我們 要 考慮一下. iPhone 15 可以嗎?",
            Language::Zh,
        );
        assert_eq!(text, "这个价格太贵了，我们要考虑一下。iPhone 15可以吗？");
    }

    #[test]
    fn other_languages_keep_their_text_with_single_spaces() {
        assert_eq!(
            normalise("  It's  $3.50,\n no?", Language::En),
            "It's $3.50, no?"
        );
    }

    #[test]
    fn what_whisper_invents_is_known_in_all_four_languages() {
        for text in [
            "Thanks for watching!",
            "Subtítulos realizados por la comunidad de Amara.org",
            "Sous-titrage Société Radio-Canada",
            "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
            "Thank you.",
            "Merci.",
            "...",
        ] {
            assert!(is_invented(text), "{text}");
        }
    }

    #[test]
    fn what_people_say_on_the_phone_is_not_taken_for_invented() {
        for text in [
            "Thank you for calling, how can I help you?",
            "Gracias por su llamada, le atiende Marta.",
            "C'est trop cher pour nous.",
            "谢谢您，我们考虑一下。",
            "No.",
        ] {
            assert!(!is_invented(text), "{text}");
        }
    }
}
