//! Card numbers: a brand's prefix and length, and Luhn's checksum.

use std::ops::Range;

use super::numerals::{Given, Piece, digits};

/// Fewest and most digits of a card.
const LENGTHS: Range<usize> = 13..20;

/// The pieces that are a card number, if some are: the leftmost, and of those the longest.
///
/// A number of sixteen digits said aloud is taken for a card's even when its checksum fails: one digit
/// misheard leaves the others right.
pub(super) fn find(run: &[Piece]) -> Option<Range<usize>> {
    for start in 0..run.len() {
        let mut found = None;
        let mut number = String::new();
        for (end, piece) in run.iter().enumerate().skip(start) {
            number.push_str(&piece.digits);
            if number.len() >= LENGTHS.end {
                break;
            }
            if is_card(&number) {
                found = Some(start..end + 1);
            }
        }
        if found.is_some() {
            return found;
        }
    }
    let spoken = run.iter().all(|piece| piece.given != Given::Written);
    let whole = digits(run);
    (spoken && whole.len() == 16 && !whole.starts_with('0')).then_some(0..run.len())
}

fn is_card(number: &str) -> bool {
    let prefix = |length: usize| -> u32 {
        number
            .get(..length)
            .and_then(|prefix| prefix.parse().ok())
            .unwrap_or(0)
    };
    let fits = match (number.len(), prefix(2), prefix(4)) {
        (13 | 19, 40..=49, _) => true,
        (14, 36 | 38, _) | (14, _, 3000..=3059) => true,
        (15, 34 | 37, _) => true,
        (16, 35 | 40..=49 | 51..=55 | 60 | 64 | 65, _) => true,
        (16, _, 2221..=2720) => true,
        // UnionPay, and Maestro.
        (16..=19, 50 | 56..=58 | 62 | 63 | 67 | 81, _) => true,
        _ => false,
    };
    fits && luhn(number)
}

fn luhn(number: &str) -> bool {
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            match place % 2 {
                0 => digit,
                _ if digit > 4 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    // All zeros would pass.
    sum > 0 && sum.is_multiple_of(10)
}
