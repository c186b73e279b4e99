//! A text as words, groups of digits, ideographs and signs.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters.
    Word,
    /// Digits, also full-width ones.
    Digits,
    /// One Chinese character.
    Ideograph,
    /// Any other single character that is no space.
    Sign,
}

/// A part of the text.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// Its first byte.
    pub(super) start: usize,
    /// The byte after its last.
    pub(super) end: usize,
    /// What it is.
    pub(super) kind: Kind,
    /// Lower case, without accents, digits as ASCII.
    pub(super) text: String,
    /// Whether a line ends between the token before and this one.
    pub(super) new_line: bool,
}

impl Token {
    /// Whether nothing lies between this token and the next.
    pub(super) fn touches(&self, next: &Self) -> bool {
        self.end == next.start
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

fn kind(character: char) -> Kind {
    match character {
        '0'..='9' | '０'..='９' => Kind::Digits,
        '〇' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => Kind::Ideograph,
        character if character.is_alphabetic() => Kind::Word,
        // Accents that stand apart belong to the letter before.
        '\u{300}'..='\u{36f}' => Kind::Word,
        _ => Kind::Sign,
    }
}

/// Letters without accents, full-width characters as ASCII.
fn fold(character: char, into: &mut String) {
    let folded = match character {
        'á' | 'à' | 'â' | 'ä' | 'ã' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' | 'õ' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ñ' => 'n',
        'ç' => 'c',
        '＠' => '@',
        '．' => '.',
        '－' | '–' | '—' | '\u{2010}' | '\u{2011}' => '-',
        '＋' => '+',
        '（' => '(',
        '）' => ')',
        '，' => ',',
        '０'..='９' => {
            char::from(b'0' + u8::try_from(character as u32 - '０' as u32).unwrap_or(0))
        }
        '\u{300}'..='\u{36f}' => return,
        other => other,
    };
    into.push(folded);
}

/// The tokens of a text, in order.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut new_line = false;
    for (start, character) in text.char_indices() {
        if character.is_whitespace() {
            new_line |= character == '\n';
            continue;
        }
        let kind = kind(character);
        let end = start + character.len_utf8();
        let joins = matches!(kind, Kind::Word | Kind::Digits);
        match tokens.last_mut() {
            Some(last) if joins && last.kind == kind && last.end == start => {
                last.end = end;
                character
                    .to_lowercase()
                    .for_each(|c| fold(c, &mut last.text));
            }
            _ => {
                let mut folded = String::new();
                character.to_lowercase().for_each(|c| fold(c, &mut folded));
                tokens.push(Token {
                    start,
                    end,
                    kind,
                    text: folded,
                    new_line,
                });
            }
        }
        new_line = false;
    }
    tokens
}
