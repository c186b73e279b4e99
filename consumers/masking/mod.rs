//! Masking: card numbers, IBANs, e-mail addresses and phone numbers are taken out of a text before it leaves.
//!
//! Written and spoken, in the product's four languages: text → tokens → numbers spoken in words become
//! digits → what a checksum, a numbering plan or the words around it give away becomes a placeholder.
//! Prices, dates, quantities and order numbers stay.

mod card;
mod email;
mod iban;
mod lexicon;
mod numerals;
mod phone;
mod token;

use std::borrow::Cow;
use std::ops::Range;

use schemas::Language;

use lexicon::Lexicon;
use numerals::Piece;
use token::Token;

/// In place of a card number.
pub const CARD: &str = "[card]";
/// In place of an IBAN.
pub const IBAN: &str = "[IBAN]";
/// In place of an e-mail address.
pub const EMAIL: &str = "[e-mail]";
/// In place of a phone number.
pub const PHONE: &str = "[phone]";

/// The text with a placeholder for each card number, IBAN, e-mail address and phone number.
///
/// `language` is the one spoken; what is written in digits is found in every language. Masking a masked
/// text changes nothing.
pub fn mask(text: &str, language: Language) -> Cow<'_, str> {
    let tokens = token::tokens(text);
    let lexicon = Lexicon::of(language);
    let mut found = Found {
        taken: vec![false; tokens.len()],
        spans: Vec::new(),
    };
    for range in email::find(&tokens, lexicon) {
        found.take(range, EMAIL);
    }
    let pieces = numerals::pieces(&tokens, lexicon);
    for range in iban::find(&tokens, &pieces, lexicon, &found.taken) {
        found.take(range, IBAN);
    }
    for run in numerals::runs(&tokens, &pieces, lexicon, &found.taken) {
        found.search(&tokens, run, lexicon);
    }
    found.apply(text, &tokens)
}

/// What was found: ranges of tokens, none in two.
struct Found {
    taken: Vec<bool>,
    spans: Vec<(Range<usize>, &'static str)>,
}

impl Found {
    fn take(&mut self, tokens: Range<usize>, placeholder: &'static str) {
        self.taken[tokens.clone()].fill(true);
        self.spans.push((tokens, placeholder));
    }

    /// Cards first: what is left and right of one may still hold a phone number.
    fn search(&mut self, tokens: &[Token], run: &[Piece], lexicon: &Lexicon) {
        if run.is_empty() {
            return;
        }
        let (window, placeholder) = if let Some(window) = card::find(run) {
            (window, CARD)
        } else if let Some(window) = phone::find(tokens, run, lexicon, &self.taken) {
            (window, PHONE)
        } else {
            return;
        };
        let mut range = run[window.start].tokens.start..run[window.end - 1].tokens.end;
        if placeholder == PHONE {
            range.start = phone::prefix(tokens, range.start, lexicon);
        }
        self.take(range, placeholder);
        self.search(tokens, &run[..window.start], lexicon);
        self.search(tokens, &run[window.end..], lexicon);
    }

    fn apply<'a>(mut self, text: &'a str, tokens: &[Token]) -> Cow<'a, str> {
        if self.spans.is_empty() {
            return Cow::Borrowed(text);
        }
        self.spans.sort_by_key(|(range, _)| range.start);
        let mut masked = String::with_capacity(text.len());
        let mut end = 0;
        for (range, placeholder) in self.spans {
            masked.push_str(&text[end..tokens[range.start].start]);
            masked.push_str(placeholder);
            end = tokens[range.end - 1].end;
        }
        masked.push_str(&text[end..]);
        Cow::Owned(masked)
    }
}

#[cfg(test)]
mod tests;
