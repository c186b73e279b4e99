//! Numbers, in digits and in words, as pieces of digits, and the runs they form.

use std::ops::Range;

use super::lexicon::Lexicon;
use super::token::{Kind, Token};

/// How a piece was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// In digits.
    Written,
    /// Digit by digit, in words.
    Spoken,
    /// As a number of two or three digits, in words.
    Compound,
}

/// One number of a few digits.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The tokens it consists of.
    pub(super) tokens: Range<usize>,
    /// Its digits.
    pub(super) digits: String,
    /// How it was given.
    pub(super) given: Given,
}

/// The end of the word, or of the phrase in ideographs, that the tokens say at `at`.
pub(super) fn says(tokens: &[Token], at: usize, word: &str) -> Option<usize> {
    let mut rest = word;
    let mut next = at;
    loop {
        let token = tokens.get(next)?;
        // What is spelled letter by letter says no word.
        if next > at && !tokens[next - 1].touches(token) {
            return None;
        }
        rest = rest.strip_prefix(token.text.as_str())?;
        next += 1;
        if rest.is_empty() {
            return Some(next);
        }
    }
}

/// The end of the first of these words that the tokens say at `at`.
pub(super) fn says_any(tokens: &[Token], at: usize, words: &[&str]) -> Option<usize> {
    words.iter().find_map(|word| says(tokens, at, word))
}

fn value(token: Option<&Token>, words: &[(&str, u32)]) -> Option<u32> {
    let token = token.filter(|token| token.kind != Kind::Sign)?;
    words
        .iter()
        .find(|(word, _)| *word == token.text)
        .map(|(_, value)| *value)
}

/// Reads words for numbers.
struct Reader<'a> {
    tokens: &'a [Token],
    lexicon: &'a Lexicon,
}

impl Reader<'_> {
    /// The token after `at`, past a hyphen that joins the two.
    fn after(&self, at: usize) -> usize {
        let next = at + 1;
        let joined = self.tokens.get(next).is_some_and(|token| {
            token.is("-")
                && self
                    .tokens
                    .get(next + 1)
                    .is_some_and(|after| token.touches(after))
        });
        if joined { next + 1 } else { next }
    }

    fn value(&self, at: usize, words: &[(&str, u32)]) -> Option<u32> {
        value(self.tokens.get(at), words)
    }

    /// A number below 100 and where it ends.
    fn below_hundred(&self, at: usize) -> Option<(u32, usize)> {
        let lexicon = self.lexicon;
        if let Some(tens) = self.value(at, lexicon.tens) {
            let mut next = self.after(at);
            let and = self
                .tokens
                .get(next)
                .is_some_and(|token| lexicon.and.contains(&token.text.as_str()));
            if and {
                next = self.after(next);
            }
            // French counts on to nineteen after sixty.
            let teen = (tens == 60 && lexicon.vigesimal).then(|| self.teen(next));
            if let Some((teen, end)) = teen.flatten() {
                return Some((tens + teen, end));
            }
            return match self.value(next, lexicon.units) {
                Some(unit @ 1..) => Some((tens + unit, next + 1)),
                _ => Some((tens, at + 1)),
            };
        }
        if let Some(found) = self.teen(at) {
            return Some(found);
        }
        let unit = self.value(at, lexicon.units)?;
        // quatre-vingt.
        let next = self.after(at);
        if unit == 4 && lexicon.vigesimal && self.value(next, lexicon.tens) == Some(20) {
            let last = self.after(next);
            return match self.teen(last) {
                Some((teen, end)) => Some((80 + teen, end)),
                None => match self.value(last, lexicon.units) {
                    Some(unit @ 1..) => Some((80 + unit, last + 1)),
                    _ => Some((80, next + 1)),
                },
            };
        }
        Some((unit, at + 1))
    }

    /// Ten to nineteen, also dix-sept.
    fn teen(&self, at: usize) -> Option<(u32, usize)> {
        let teen = self.value(at, self.lexicon.teens)?;
        let next = self.after(at);
        match self.value(next, self.lexicon.units) {
            Some(unit @ 7..=9) if teen == 10 && self.lexicon.vigesimal => {
                Some((teen + unit, next + 1))
            }
            _ => Some((teen, at + 1)),
        }
    }

    /// A number below 1,000 as one says it, and where it ends.
    fn number(&self, at: usize) -> Option<(u32, usize)> {
        let rest = |hundreds: u32, next: usize| match self.below_hundred(next) {
            Some((below, end)) if below > 0 => (hundreds + below, end),
            _ => (hundreds, next),
        };
        if let Some(hundreds) = self.value(at, self.lexicon.hundreds) {
            return Some(rest(hundreds, at + 1));
        }
        let (below, end) = self.below_hundred(at)?;
        let is_hundred = self
            .tokens
            .get(end)
            .is_some_and(|token| self.lexicon.hundred.contains(&token.text.as_str()));
        if (1..=9).contains(&below) && is_hundred {
            // English digits go on one by one: eight hundred, five five five.
            return Some(match self.lexicon.vigesimal {
                true => rest(below * 100, end + 1),
                false => (below * 100, end + 1),
            });
        }
        Some((below, end))
    }

    /// A spoken piece at `at`.
    fn piece(&self, at: usize) -> Option<Piece> {
        let token = &self.tokens[at];
        let times = self
            .lexicon
            .times
            .iter()
            .find(|(word, _)| *word == token.text);
        if let Some((_, times)) = times {
            let next = self.after(at);
            let unit = self.value(next, self.lexicon.units)?;
            return Some(Piece {
                tokens: at..next + 1,
                digits: unit.to_string().repeat(*times),
                given: Given::Spoken,
            });
        }
        let (number, end) = self.number(at)?;
        let given = if number < 10 {
            Given::Spoken
        } else {
            Given::Compound
        };
        Some(Piece {
            tokens: at..end,
            digits: number.to_string(),
            given,
        })
    }
}

/// All numbers of a text, in order.
pub(super) fn pieces(tokens: &[Token], lexicon: &Lexicon) -> Vec<Piece> {
    let reader = Reader { tokens, lexicon };
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let piece = match tokens[at].kind {
            Kind::Sign => None,
            Kind::Digits => Some(Piece {
                tokens: at..at + 1,
                digits: tokens[at].text.clone(),
                given: Given::Written,
            }),
            Kind::Word | Kind::Ideograph => reader.piece(at),
        };
        at = match &piece {
            Some(piece) => piece.tokens.end,
            None => at + 1,
        };
        pieces.extend(piece);
    }
    pieces
}

/// Whether two neighbouring pieces may be parts of one number.
fn joined(tokens: &[Token], left: &Piece, right: &Piece, lexicon: &Lexicon) -> bool {
    let gap = left.tokens.end..right.tokens.start;
    if tokens[gap.start..=right.tokens.start]
        .iter()
        .any(|token| token.new_line)
    {
        return false;
    }
    let both_written = left.given == Given::Written && right.given == Given::Written;
    let mut commas = 0;
    let mut at = gap.start;
    while at < gap.end {
        let token = &tokens[at];
        if token.kind == Kind::Sign {
            match token.text.as_str() {
                "-" | "." | "(" | ")" => {}
                "," | "、" if !both_written => commas += 1,
                // 06/12/34/56/78; a date has no more than three parts and no part of a phone number.
                "/" if left.digits.len() == 2 && right.digits.len() == 2 => {}
                _ => return false,
            }
            at += 1;
        } else if let Some(end) = says_any(tokens, at, lexicon.fillers) {
            at = end;
        } else {
            return false;
        }
    }
    commas <= 1 && gap.len() <= 4
}

/// Whether the piece is part of a larger quantity: five thousand, 20 million, 三百.
fn quantity(tokens: &[Token], piece: &Piece, lexicon: &Lexicon) -> bool {
    let before = piece.tokens.start.checked_sub(1);
    let magnitude = |at: usize| {
        let token = tokens.get(at);
        token.is_some_and(|token| lexicon.magnitudes.contains(&token.text.as_str()))
    };
    magnitude(piece.tokens.end) || before.is_some_and(magnitude)
}

/// The longest rows of pieces that may be one number each.
pub(super) fn runs<'a>(
    tokens: &[Token],
    pieces: &'a [Piece],
    lexicon: &Lexicon,
    taken: &[bool],
) -> Vec<&'a [Piece]> {
    let mut runs = Vec::new();
    let mut start = 0;
    let free = |piece: &Piece| {
        piece.tokens.clone().all(|at| !taken[at]) && !quantity(tokens, piece, lexicon)
    };
    for at in 0..pieces.len() {
        if !free(&pieces[at]) {
            runs.push(&pieces[start..at]);
            start = at + 1;
        } else if at > start && !joined(tokens, &pieces[at - 1], &pieces[at], lexicon) {
            runs.push(&pieces[start..at]);
            start = at;
        }
    }
    runs.push(&pieces[start.min(pieces.len())..]);
    runs.retain(|run| !run.is_empty());
    runs
}

/// The digits of pieces, in a row.
pub(super) fn digits(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.digits.as_str()).collect()
}
