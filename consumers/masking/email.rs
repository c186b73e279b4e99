//! E-mail addresses, written and spoken.

use std::ops::Range;

use super::lexicon::{DOMAINS, Lexicon, PROVIDERS};
use super::numerals::{says, says_any};
use super::token::{Kind, Token};

/// How far back a word may announce an address.
const REACH: usize = 6;

/// Every address, as ranges of tokens, in order.
pub(super) fn find(tokens: &[Token], lexicon: &Lexicon) -> Vec<Range<usize>> {
    let address = Address { tokens, lexicon };
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let from = found.last().map_or(0, |last| last.end);
        match address.around(at, from) {
            Some(range) => {
                at = range.end;
                found.push(range);
            }
            None => at += 1,
        }
    }
    found
}

struct Address<'a> {
    tokens: &'a [Token],
    lexicon: &'a Lexicon,
}

impl Address<'_> {
    /// The address whose `@` is at `at`, not before token `from`.
    fn around(&self, at: usize, from: usize) -> Option<Range<usize>> {
        let sign = self.tokens[at].is("@");
        let said = says_any(self.tokens, at, self.lexicon.at);
        let certain = sign || said.is_some();
        let after = match (sign, said) {
            (true, _) => at + 1,
            (_, Some(end)) => end,
            _ => says_any(self.tokens, at, self.lexicon.maybe_at)?,
        };
        let end = self.domain(after, certain)?;
        let start = self.local(at, from);
        if start == at && !certain {
            return None;
        }
        if !certain && self.is_a_word(at, start) {
            return None;
        }
        Some(start..end)
    }

    /// Whether the `at` before which the local part begins at `start` is one of the language's own.
    fn is_a_word(&self, at: usize, start: usize) -> bool {
        let before = &self.tokens[at - 1].text;
        if at - start > 1 || !self.lexicon.before_at.contains(&before.as_str()) {
            return false;
        }
        let mut before = (start.saturating_sub(REACH)..start)
            .rev()
            .take_while(|&at| !self.tokens[at].is("]"));
        !before.any(|at| says_any(self.tokens, at, self.lexicon.mail).is_some())
    }

    /// Whether a name, a number or a letter stands at `at`.
    fn atom(&self, at: usize) -> bool {
        match self.tokens[at].kind {
            Kind::Word | Kind::Digits => true,
            Kind::Ideograph => self.is_digit(at),
            Kind::Sign => false,
        }
    }

    fn is_digit(&self, at: usize) -> bool {
        let text = self.tokens[at].text.as_str();
        self.lexicon.units.iter().any(|(word, _)| *word == text)
    }

    /// Spelled: a letter, a number, or a word for a digit.
    fn spelled(&self, at: usize) -> bool {
        let token = &self.tokens[at];
        // The s of it's, and a conjunction, are no letters of a name.
        let after_apostrophe = at > 0
            && matches!(self.tokens[at - 1].text.as_str(), "'" | "’")
            && self.tokens[at - 1].touches(token);
        if after_apostrophe || self.lexicon.and.contains(&token.text.as_str()) {
            return false;
        }
        token.kind == Kind::Digits
            || (token.kind == Kind::Word && token.text.chars().count() == 1)
            || self.is_digit(at)
    }

    /// The end of the dot that is said or written at `at`.
    fn dot(&self, at: usize) -> Option<usize> {
        if self.tokens.get(at)?.is(".") {
            // The end of a sentence touches the word before it only.
            let before = at > 0 && self.tokens[at - 1].touches(&self.tokens[at]);
            let after = self.tokens.get(at + 1);
            let after = after.is_some_and(|after| self.tokens[at].touches(after));
            return (before == after).then_some(at + 1);
        }
        self.words(at, self.lexicon.dot)
    }

    fn words(&self, at: usize, phrases: &[&[&str]]) -> Option<usize> {
        phrases.iter().find_map(|phrase| {
            phrase
                .iter()
                .try_fold(at, |at, word| says(self.tokens, at, word))
        })
    }

    /// The end of the domain that begins at `at`.
    fn domain(&self, at: usize, certain: bool) -> Option<usize> {
        let mut end = self.label(at)?;
        let first = end;
        let mut dotted = None;
        while let Some(label) = self.dot(end) {
            let Some(next) = self.label(label) else { break };
            end = next;
            let last = &self.tokens[end - 1];
            if DOMAINS.contains(&last.text.as_str()) {
                dotted = Some(end);
            } else if self.tokens[label - 1].is(".")
                && last.text.len() >= 2
                && last.kind == Kind::Word
            {
                // Written without a space: any ending will do.
                let before = &self.tokens[label - 1];
                if before.touches(&self.tokens[label]) {
                    dotted = Some(end);
                }
            }
        }
        if dotted.is_none() && certain {
            let provider = PROVIDERS.contains(&self.tokens[first - 1].text.as_str());
            return provider.then_some(first);
        }
        dotted
    }

    /// The end of one part of a domain: a word, or spelled letters and digits, with hyphens in between.
    fn label(&self, at: usize) -> Option<usize> {
        if at >= self.tokens.len() || !self.atom(at) {
            return None;
        }
        let mut end = at + 1;
        while end < self.tokens.len() {
            let (last, next) = (&self.tokens[end - 1], &self.tokens[end]);
            let goes_on = self.atom(end)
                && self.dot(end).is_none()
                && (last.touches(next) || (self.spelled(end - 1) && self.spelled(end)));
            if goes_on {
                end += 1;
                continue;
            }
            let joiner = if next.is("-") && last.touches(next) {
                Some(end + 1)
            } else {
                self.words(end, self.lexicon.joiner)
            };
            match joiner.filter(|&after| after < self.tokens.len() && self.atom(after)) {
                Some(after) => end = after + 1,
                None => break,
            }
        }
        Some(end)
    }

    /// Where the local part begins that ends before `at`, not before `from`; `at` when there is none.
    fn local(&self, at: usize, from: usize) -> usize {
        let mut start = at;
        // The name itself.
        if start > from && self.atom(start - 1) {
            start -= 1;
        }
        while start > from && start < at {
            let (before, first) = (&self.tokens[start - 1], &self.tokens[start]);
            let same = self.atom(start - 1)
                && (before.touches(first) || (self.spelled(start - 1) && self.spelled(start)))
                && !self.separates(start - 1);
            // john dot smith forty two, not: it is forty two at.
            let numbered = self.spelled(start)
                && self.atom(start - 1)
                && !self.separates(start - 1)
                && self.joiner_before(start - 1, from).is_some();
            if same || numbered {
                start -= 1;
                continue;
            }
            match self.joiner_before(start, from) {
                Some(name) => start = name,
                None => break,
            }
        }
        start
    }

    /// Whether the word at `at` is a dot or a joiner, which belongs to both sides.
    fn separates(&self, at: usize) -> bool {
        self.dot(at).is_some() || self.words(at, self.lexicon.joiner).is_some()
    }

    /// The start of the name that a dot or joiner before `start` follows.
    fn joiner_before(&self, start: usize, from: usize) -> Option<usize> {
        let sign = self.tokens.get(start.checked_sub(1)?)?;
        let written = sign.kind == Kind::Sign
            && matches!(sign.text.as_str(), "." | "_" | "-" | "+" | "%")
            && sign.touches(&self.tokens[start]);
        let joiner = if written {
            Some(start - 1)
        } else {
            (1..=3)
                .filter_map(|length| start.checked_sub(length))
                .find(|&begin| {
                    let phrases = [self.lexicon.dot, self.lexicon.joiner];
                    phrases
                        .iter()
                        .any(|list| self.words(begin, list) == Some(start))
                })
        };
        let name = joiner?.checked_sub(1)?;
        let touches = !written || self.tokens[name].touches(sign);
        (name >= from && self.atom(name) && touches).then_some(name)
    }
}
