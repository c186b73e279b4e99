//! Phone numbers: by their country's plan, by being said digit by digit, or by the words before them.

use std::ops::Range;

use super::lexicon::{Lexicon, MONEY};
use super::numerals::{Given, Piece, digits, says_any};
use super::token::{Kind, Token};

/// Digits of a phone number, its country's code among them.
const LENGTHS: std::ops::RangeInclusive<usize> = 7..=15;
/// How many tokens before a number may say of what kind it is.
const REACH: usize = 6;

/// What the words before a number say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Phone,
    Other,
    Nothing,
}

/// The pieces that are a phone number, if some are: the whole run, or else the leftmost and longest.
pub(super) fn find(
    tokens: &[Token],
    run: &[Piece],
    lexicon: &Lexicon,
    taken: &[bool],
) -> Option<Range<usize>> {
    let said = said(tokens, run[0].tokens.start, lexicon, taken);
    let count = run.len();
    // The whole run first; then what follows a plan among other numbers.
    let whole = std::iter::once(0..count);
    let parts = (0..count).flat_map(|start| {
        let longest = count.min(start + LENGTHS.end());
        (start + 1..=longest).rev().map(move |end| start..end)
    });
    whole
        .chain(parts)
        .find(|window| is_phone(tokens, run, window, said, lexicon))
}

/// Where the number begins with a `+` or an opening bracket before its first token.
pub(super) fn prefix(tokens: &[Token], start: usize, lexicon: &Lexicon) -> usize {
    let mut start = start;
    if start > 0 && tokens[start - 1].is("(") {
        start -= 1;
    }
    if start > 0 && plus(tokens, start, lexicon) {
        start -= 1;
    }
    start
}

fn plus(tokens: &[Token], start: usize, lexicon: &Lexicon) -> bool {
    let Some(before) = start.checked_sub(1) else {
        return false;
    };
    (tokens[before].is("+") && tokens[before].touches(&tokens[start]))
        || says_any(tokens, before, lexicon.plus) == Some(start)
}

/// The nearest word before the number that says what it is. What was masked says nothing of what follows it.
fn said(tokens: &[Token], start: usize, lexicon: &Lexicon, taken: &[bool]) -> Said {
    for at in (start.saturating_sub(REACH)..start).rev() {
        if taken[at] || tokens[at].is("]") {
            break;
        }
        let is = |words: &[&str]| says_any(tokens, at, words).is_some_and(|end| end <= start);
        if is(lexicon.other) {
            return Said::Other;
        }
        let at_once = is(lexicon.number) && says_any(tokens, at, lexicon.number) >= Some(start - 1);
        if is(lexicon.phone) || at_once {
            // An order number, un número de pedido.
            let near = (at.saturating_sub(2)..(at + 4).min(start))
                .any(|near| says_any(tokens, near, lexicon.other).is_some());
            return if near { Said::Other } else { Said::Phone };
        }
    }
    Said::Nothing
}

/// Whether money or something counted stands beside the window.
fn counted(tokens: &[Token], window: &Range<usize>, lexicon: &Lexicon) -> bool {
    let money = |at: usize| {
        tokens
            .get(at)
            .is_some_and(|token| MONEY.contains(&token.text.as_str()))
    };
    let unit = says_any(tokens, window.end, lexicon.unit_of).is_some()
        && !tokens.get(window.end).is_some_and(|token| token.new_line);
    unit || money(window.end) || window.start.checked_sub(1).is_some_and(money)
}

fn is_phone(
    tokens: &[Token],
    run: &[Piece],
    window: &Range<usize>,
    said: Said,
    lexicon: &Lexicon,
) -> bool {
    let pieces = &run[window.clone()];
    let number = digits(pieces);
    if !LENGTHS.contains(&number.len()) {
        return false;
    }
    let range = pieces[0].tokens.start..pieces[pieces.len() - 1].tokens.end;
    if counted(tokens, &range, lexicon) || counting(pieces) || decimals(tokens, pieces) {
        return false;
    }
    if plus(tokens, range.start, lexicon) && number.len() >= 8 {
        return true;
    }
    let whole = window.len() == run.len();
    let written = pieces.iter().all(|piece| piece.given == Given::Written);
    let spoken = |piece: &Piece| piece.given == Given::Spoken;
    let all_spoken = pieces.iter().all(spoken)
        && !run[..window.start].last().is_some_and(spoken)
        && !run[window.end..].first().is_some_and(spoken);
    match said {
        Said::Other => false,
        Said::Phone if whole && !date(tokens, pieces) => true,
        _ if written => grouped(tokens, pieces, &number, said, lexicon),
        // Nobody counts or prices digit by digit.
        _ if all_spoken => true,
        _ => planned(&number, lexicon),
    }
}

/// One, two, three, four; ten, twenty, thirty, forty; sizes.
fn counting(pieces: &[Piece]) -> bool {
    let numbers: Option<Vec<i64>> = pieces
        .iter()
        .map(|piece| piece.digits.parse().ok())
        .collect();
    let steps: Vec<i64> = match numbers {
        Some(numbers) => numbers.windows(2).map(|two| two[1] - two[0]).collect(),
        None => return false,
    };
    steps.len() > 2
        && matches!(steps[0].abs(), 1 | 2 | 5 | 10)
        && steps.iter().all(|step| *step == steps[0])
}

/// Whether a point or comma makes it a number with decimals: 1234567.50.
fn decimals(tokens: &[Token], pieces: &[Piece]) -> bool {
    let [.., first, last] = pieces else {
        return false;
    };
    let gap = &tokens[first.tokens.end..last.tokens.start];
    pieces.len() == 2
        && last.digits.len() <= 2
        && matches!(gap, [sign] if sign.is(".") || sign.is(","))
}

/// Whether the pieces are a day: year, month, day in one of their orders.
fn date(tokens: &[Token], pieces: &[Piece]) -> bool {
    let [a, b, c] = pieces else { return false };
    let gap = &tokens[a.tokens.end..b.tokens.start];
    if !matches!(gap, [sign] if matches!(sign.text.as_str(), "-" | "." | "/")) {
        return false;
    }
    let lengths = [a.digits.len(), b.digits.len(), c.digits.len()];
    let month = |piece: &Piece| {
        piece
            .digits
            .parse::<u32>()
            .is_ok_and(|month| (1..=31).contains(&month))
    };
    match lengths {
        [4, 1..=2, 1..=2] => month(b) && month(c),
        [1..=2, 1..=2, 4] => month(a) && month(b),
        _ => false,
    }
}

/// A number of the plan of a country where the product's languages are spoken.
fn planned(number: &str, lexicon: &Lexicon) -> bool {
    let spanish = lexicon.at.contains(&"arroba");
    french(number)
        || british(number)
        || north_american(number)
        || chinese(number)
        || (spanish && (spaniard(number) || mexican(number)))
}

fn french(number: &str) -> bool {
    number.len() == 10 && number.starts_with('0') && !number.starts_with("00")
}

fn british(number: &str) -> bool {
    number.len() == 11 && number.starts_with('0') && !number.starts_with("00")
}

fn north_american(number: &str) -> bool {
    let national = match number.len() {
        10 => number,
        11 if number.starts_with('1') => &number[1..],
        _ => return false,
    };
    let first = |at: usize| matches!(national.as_bytes().get(at), Some(b'2'..=b'9'));
    first(0) && first(3)
}

fn spaniard(number: &str) -> bool {
    number.len() == 9 && matches!(number.as_bytes().first(), Some(b'6'..=b'9'))
}

fn mexican(number: &str) -> bool {
    number.len() == 10 && matches!(number.as_bytes().first(), Some(b'2'..=b'9'))
}

fn chinese(number: &str) -> bool {
    let bytes = number.as_bytes();
    match number.len() {
        11 => bytes[0] == b'1' && matches!(bytes[1], b'3'..=b'9'),
        12 => bytes[0] == b'0' && bytes[1] != b'0',
        _ => false,
    }
}

/// A number written in digits: its groups must be those of its plan, so that no other number is taken.
fn grouped(
    tokens: &[Token],
    pieces: &[Piece],
    number: &str,
    said: Said,
    lexicon: &Lexicon,
) -> bool {
    let groups: Vec<usize> = pieces.iter().map(|piece| piece.digits.len()).collect();
    let signs: Vec<&str> = tokens[pieces[0].tokens.start..pieces[pieces.len() - 1].tokens.end]
        .iter()
        .filter(|token| token.kind == Kind::Sign)
        .map(|token| token.text.as_str())
        .collect();
    let alone = groups.len() == 1;
    let spanish = lexicon.at.contains(&"arroba");
    let mandarin = lexicon.at.contains(&"艾特");
    match groups.as_slice() {
        _ if number.starts_with("00") => number.len() >= 10 && !alone,
        [2, 2, 2, 2, 2] | [1, 1, 2, 2, 2, 2] => french(number),
        [10] | [4, 6] | [4, 3, 3] if french(number) => true,
        [11] | [5, 6] | [5, 3, 3] | [3, 4, 4] | [4, 3, 4] | [3, 8] | [4, 7] if british(number) => {
            true
        }
        [11] | [3, 4, 4] | [3, 8] => chinese(number),
        [4, 8] => chinese(number),
        [3, 3, 4] => match signs.first() {
            Some(&"-") if matches!(&number[..3], "400" | "800") => true,
            _ => north_american(number) || (spanish && mexican(number)),
        },
        [1, 3, 3, 4] => north_american(number),
        [2, 4, 4] => french(number) || (spanish && mexican(number)),
        [10] | [3, 7] | [6, 4] => north_american(number) && !mandarin,
        [9] => spanish && spaniard(number),
        // Three by three is how thousands are written, with points above all.
        [3, 3, 3] => spaniard(number) && signs.is_empty() && (spanish || said == Said::Phone),
        [3, 2, 2, 2] | [2, 3, 2, 2] | [3, 6] | [1, 2, 2, 2, 2] => spaniard(number),
        _ => false,
    }
}
