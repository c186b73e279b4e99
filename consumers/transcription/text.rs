//! Makes Whisper's text fit to read, and knows the words it invents.

use schemas::Language;

use crate::script::{Script, in_script, is_han};

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

/// The text with single spaces and, in Mandarin, in one script with its own punctuation.
pub fn normalise(text: &str, language: Language, script: Script) -> String {
    let text = text.replace('\u{fffd}', " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if language != Language::Zh {
        return text;
    }
    set_chinese(&in_script(&text, script))
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

/// Punctuation beside a Chinese character becomes Chinese, but not within a number or an address;
/// spaces beside one go, and wide digits and letters become narrow.
fn set_chinese(text: &str) -> String {
    let text: Vec<char> = text.chars().map(narrow).collect();
    let wide = |c: char| is_han(c) || "，。？！：；、".contains(c);
    let chinese = text.iter().any(|&c| is_han(c));
    let mut set = String::with_capacity(text.len() * 3);
    let mut before = ' ';
    for (at, &c) in text.iter().enumerate() {
        let next = text[at + 1..].iter().copied().find(|&next| next != ' ');
        let ends = next.map_or(chinese, wide);
        let c = match c {
            ',' if wide(before) || ends => '，',
            '.' if wide(before) || ends => '。',
            '?' if wide(before) || ends => '？',
            '!' if wide(before) || ends => '！',
            ':' if wide(before) || ends => '：',
            ';' if wide(before) || ends => '；',
            other => other,
        };
        let drop = c == ' ' && (wide(before) || text.get(at + 1).is_some_and(|&next| wide(next)));
        if !drop {
            set.push(c);
            before = c;
        }
    }
    set
}

/// The narrow form of a wide digit, letter or sign of a number.
fn narrow(c: char) -> char {
    match c {
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '％' | '＋' | '－' => {
            char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c)
        }
        '．' => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traditional_script_becomes_simplified_with_chinese_punctuation() {
        let text = normalise(
            " 這個價格 太貴了, 我們 要 考慮一下. iPhone 15 可以嗎?",
            Language::Zh,
            Script::Simplified,
        );
        assert_eq!(text, "这个价格太贵了，我们要考虑一下。iPhone 15可以吗？");
    }

    #[test]
    fn simplified_script_becomes_traditional_where_the_tenant_asks_and_mixed_text_is_mended() {
        let text = normalise(
            "这個价格太贵了, 我们要考虑一下, 头发和发票",
            Language::Zh,
            Script::Traditional,
        );
        assert_eq!(text, "這個價格太貴了，我們要考慮一下，頭髮和發票");
    }

    #[test]
    fn numbers_in_mandarin_keep_their_points_and_commas_and_become_narrow() {
        for (heard, written) in [
            ("每月12.5元,一年3,500块.", "每月12.5元，一年3,500块。"),
            ("一共３５００, 可以吗?", "一共3500，可以吗？"),
            ("大概要２０％.", "大概要20%。"),
            ("网址是example.com 对吧?", "网址是example.com对吧？"),
            ("我们用 Sales Force, 你呢?", "我们用Sales Force，你呢？"),
            ("Okay, thank you.", "Okay, thank you."),
        ] {
            assert_eq!(normalise(heard, Language::Zh, Script::Simplified), written);
        }
    }

    #[test]
    fn other_languages_keep_their_text_with_single_spaces() {
        assert_eq!(
            normalise("  It's  $3.50,\n no?", Language::En, Script::Simplified),
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
