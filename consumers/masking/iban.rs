//! IBANs: a country, its length, and the checksum modulo 97.

use std::ops::Range;

use super::lexicon::Lexicon;
use super::numerals::Piece;
use super::token::{Kind, Token};

/// Length per country.
const COUNTRIES: &[(&str, usize)] = &[
    ("ad", 24),
    ("ae", 23),
    ("at", 20),
    ("be", 16),
    ("bg", 22),
    ("br", 29),
    ("ch", 21),
    ("cr", 22),
    ("cy", 28),
    ("cz", 24),
    ("de", 22),
    ("dk", 18),
    ("do", 28),
    ("ee", 20),
    ("es", 24),
    ("fi", 18),
    ("fr", 27),
    ("gb", 22),
    ("gi", 23),
    ("gr", 27),
    ("gt", 28),
    ("hr", 21),
    ("hu", 28),
    ("ie", 22),
    ("il", 23),
    ("is", 26),
    ("it", 27),
    ("li", 21),
    ("lt", 20),
    ("lu", 20),
    ("lv", 21),
    ("ma", 28),
    ("mc", 27),
    ("mt", 31),
    ("nl", 18),
    ("no", 15),
    ("pl", 28),
    ("pt", 25),
    ("ro", 24),
    ("sa", 24),
    ("se", 24),
    ("si", 19),
    ("sk", 24),
    ("sm", 27),
    ("tn", 24),
    ("tr", 26),
    ("ua", 29),
    ("va", 22),
];

/// What a token or piece adds to an IBAN, and where the next begins.
fn characters(
    tokens: &[Token],
    pieces: &[Piece],
    lexicon: &Lexicon,
    at: usize,
) -> Option<(String, usize)> {
    let token = &tokens[at];
    // A letter's name may be a number's beginning; a number is one wherever it is read as one.
    let place = pieces.partition_point(|piece| piece.tokens.start < at);
    if let Some(piece) = pieces.get(place).filter(|piece| piece.tokens.start == at) {
        return Some((piece.digits.clone(), piece.tokens.end));
    }
    if token.kind != Kind::Word {
        return None;
    }
    let letter = lexicon.letters.iter().find(|(name, _)| *name == token.text);
    let is_country = COUNTRIES.iter().any(|(code, _)| *code == token.text);
    if let Some((_, letter)) = letter.filter(|_| !is_country) {
        return Some((letter.to_string(), at + 1));
    }
    let short =
        token.text.len() <= 4 && token.text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    short.then(|| (token.text.clone(), at + 1))
}

/// Every IBAN, as ranges of tokens.
pub(super) fn find(
    tokens: &[Token],
    pieces: &[Piece],
    lexicon: &Lexicon,
    taken: &[bool],
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match one(tokens, pieces, lexicon, taken, at) {
            Some(end) => {
                found.push(at..end);
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

/// The end of the IBAN that begins at `start`.
fn one(
    tokens: &[Token],
    pieces: &[Piece],
    lexicon: &Lexicon,
    taken: &[bool],
    start: usize,
) -> Option<usize> {
    if tokens[start].kind != Kind::Word || taken[start] {
        return None;
    }
    let mut number = String::new();
    let mut at = start;
    while at < tokens.len() && !taken[at] {
        let token = &tokens[at];
        if at > start && (token.is("-") || token.is(".") || token.is(",")) {
            at += 1;
            continue;
        }
        let (more, next) = characters(tokens, pieces, lexicon, at)?;
        number.push_str(&more);
        at = next;
        if number.len() < 4 {
            continue;
        }
        let length = length(&number)?;
        if number.len() == length {
            return valid(&number).then_some(at);
        }
        if number.len() > length {
            return None;
        }
    }
    None
}

/// How long the IBAN is that begins so.
fn length(number: &str) -> Option<usize> {
    let (country, check) = (number.get(..2)?, number.get(2..4)?);
    check
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())?;
    let known = COUNTRIES.iter().find(|(code, _)| *code == country);
    known.map(|(_, length)| *length)
}

fn valid(number: &str) -> bool {
    let moved = number[4..].bytes().chain(number[..4].bytes());
    let rest = moved.fold(0_u32, |rest, byte| {
        if byte.is_ascii_digit() {
            (rest * 10 + u32::from(byte - b'0')) % 97
        } else {
            (rest * 100 + u32::from(byte.wrapping_sub(b'a')) + 10) % 97
        }
    });
    rest == 1
}
