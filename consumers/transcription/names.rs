//! Finds the places in a text where a name of the tenant's vocabulary may have been said and
//! something that sounds like it was written.
//!
//! Sound is compared letter by letter after both sides are written as they sound: Latin words by
//! rules that hold roughly in English, Spanish and French, Chinese characters in pinyin without
//! tones. It need not be exact: what is found is a proposal, and Whisper judges it against what
//! it heard.

use std::ops::Range;

use pinyin::ToPinyin;

use super::vocabulary::Vocabulary;

/// Likeness of sound, 0 to 1, from which on a name is proposed.
const LEAST_LIKENESS: f32 = 0.62;
/// Most names proposed for one text.
const MOST_PROPOSALS: usize = 4;
/// What it costs to write one sound for another, in tenths of the worst case.
const UNLIKE: u32 = 10;
const NEAR: u32 = 5;
const VOWEL_FOR_VOWEL: u32 = 4;
const VOWEL_MORE_OR_LESS: u32 = 5;
const CONSONANT_MORE_OR_LESS: u32 = 9;
/// Consonants that are heard for one another.
const NEIGHBOURS: [&str; 8] = ["szcxjq", "td", "pbvf", "kgh", "fh", "mn", "ln", "lr"];
/// How letters sound, the longest first.
const SOUNDS: [(&str, &str); 32] = [
    ("eau", "o"),
    ("sch", "x"),
    ("tch", "x"),
    ("sh", "x"),
    ("ch", "x"),
    ("ph", "f"),
    ("th", "t"),
    ("qu", "k"),
    ("ck", "k"),
    ("ce", "se"),
    ("ci", "si"),
    ("cy", "si"),
    ("gn", "n"),
    ("ou", "u"),
    ("oo", "u"),
    ("ee", "i"),
    ("ea", "i"),
    ("ie", "i"),
    ("au", "o"),
    ("aw", "o"),
    ("ow", "o"),
    ("ai", "e"),
    ("ay", "e"),
    ("ei", "e"),
    ("ey", "e"),
    ("c", "k"),
    ("q", "k"),
    ("x", "ks"),
    ("z", "s"),
    ("w", "v"),
    ("y", "i"),
    ("h", ""),
];

/// A tenant's names, ready to be looked for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    names: Vec<Name>,
}

#[derive(Clone, Debug)]
struct Name {
    spelled: String,
    sound: Vec<u8>,
    units: usize,
}

/// A name that may have been said where something else was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal<'a> {
    /// The bytes of the text that would go.
    pub place: Range<usize>,
    /// The name, as the tenant spells it.
    pub name: &'a str,
    /// How alike both sound, 0 to 1.
    pub likeness: f32,
    /// Letters of the name's sound: a short one is like much.
    pub sounds: usize,
}

/// A word, or a Chinese character.
#[derive(Debug)]
struct Unit {
    place: Range<usize>,
    sound: Vec<u8>,
    /// Whether a sentence or clause ends before it.
    begins_clause: bool,
}

impl Names {
    /// Those of a vocabulary.
    pub fn new(vocabulary: &Vocabulary) -> Self {
        let name = |spelled: &String| {
            let units = units(spelled);
            Name {
                spelled: spelled.clone(),
                sound: units.iter().flat_map(|unit| unit.sound.clone()).collect(),
                units: units.len(),
            }
        };
        Self {
            names: vocabulary.names().iter().map(name).collect(),
        }
    }

    /// The likeliest names, each with the place where it may stand; the best first. A place where
    /// a name stands already has none.
    pub fn proposals(&self, text: &str) -> Vec<Proposal<'_>> {
        let units = units(text);
        let mut found: Vec<Proposal<'_>> = Vec::new();
        for name in &self.names {
            for first in 0..units.len() {
                for last in first..units.len().min(first + name.units + 2) {
                    if last > first && units[last].begins_clause {
                        break;
                    }
                    let sounds = units[first..=last].iter().flat_map(|unit| &unit.sound);
                    let sound: Vec<u8> = sounds.copied().collect();
                    let likeness = likeness(&name.sound, &sound);
                    if likeness >= LEAST_LIKENESS {
                        found.push(Proposal {
                            place: units[first].place.start..units[last].place.end,
                            name: &name.spelled,
                            likeness,
                            sounds: name.sound.len(),
                        });
                    }
                }
            }
        }
        let there = |proposal: &Proposal<'_>| &text[proposal.place.clone()] == proposal.name;
        let taken: Vec<Range<usize>> = found
            .iter()
            .filter(|proposal| there(proposal))
            .map(|proposal| proposal.place.clone())
            .collect();
        found.retain(|proposal| !taken.iter().any(|place| overlap(place, &proposal.place)));
        // The sort is stable: of equals, the earlier in the vocabulary goes first.
        found.sort_by(|a, b| b.likeness.total_cmp(&a.likeness));
        let mut best: Vec<Proposal<'_>> = Vec::new();
        for proposal in found {
            let same = |other: &Proposal<'_>| {
                other.name == proposal.name && overlap(&other.place, &proposal.place)
            };
            if best.len() < MOST_PROPOSALS && !best.iter().any(same) {
                best.push(proposal);
            }
        }
        best
    }
}

/// Whether two places have a byte in common.
pub fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Words and Chinese characters of a text, with their sounds.
fn units(text: &str) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut word: Option<Range<usize>> = None;
    let mut begins_clause = true;
    let mut stop = false;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let han = c.to_pinyin();
        if han.is_none() && c.is_alphanumeric() {
            stop = false;
            word.get_or_insert(at..at).end = at + c.len_utf8();
            continue;
        }
        if let Some(place) = word.take() {
            let sound = latin(&text[place.clone()]);
            units.push(Unit {
                place,
                sound,
                begins_clause,
            });
            begins_clause = false;
        }
        if let Some(han) = han {
            begins_clause |= stop;
            units.push(Unit {
                place: at..at + c.len_utf8(),
                sound: syllable(han.plain()),
                begins_clause,
            });
            begins_clause = false;
        }
        // A full stop within a word, as in example.com, ends nothing.
        begins_clause |= "，。？！；：、".contains(c) || stop && c.is_whitespace();
        stop = ",.?!;:…".contains(c);
    }
    units
}

/// How a word in Latin letters sounds. Letters of other scripts have no sound.
fn latin(word: &str) -> Vec<u8> {
    let letters: String = word
        .chars()
        .flat_map(char::to_lowercase)
        .map(without_accent)
        .filter(char::is_ascii_alphanumeric)
        .collect();
    let mut sound: Vec<u8> = Vec::new();
    let mut rest = letters.as_str();
    while let Some(first) = rest.get(..1) {
        let rule = SOUNDS.iter().find(|(letters, _)| rest.starts_with(letters));
        let &(letters, sounds) = rule.unwrap_or(&(first, first));
        for &byte in sounds.as_bytes() {
            if sound.last() != Some(&byte) {
                sound.push(byte);
            }
        }
        rest = &rest[letters.len()..];
    }
    sound
}

/// How a Chinese character sounds: pinyin, without what many speakers do not tell apart.
fn syllable(pinyin: &str) -> Vec<u8> {
    let plain = pinyin.replace('ü', "v").replace("ng", "n");
    let plain = plain
        .replace("zh", "z")
        .replace("ch", "c")
        .replace("sh", "s");
    plain.into_bytes()
}

fn without_accent(c: char) -> char {
    match c {
        'á' | 'à' | 'â' | 'ä' | 'ã' | 'å' => 'a',
        'é' | 'è' | 'ê' | 'ë' | 'œ' | 'æ' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'ö' | 'õ' | 'ø' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ç' => 's',
        'ñ' => 'n',
        other => other,
    }
}

/// How alike two sounds are, 0 to 1: their edit distance, near sounds being near.
fn likeness(a: &[u8], b: &[u8]) -> f32 {
    let longest = a.len().max(b.len());
    let worst = longest as u32 * UNLIKE;
    if a.len() * 2 < b.len() || b.len() * 2 < a.len() || longest == 0 {
        return 0.0;
    }
    let mut row: Vec<u32> = vec![0];
    row.extend(b.iter().scan(0, |sum, &sound| {
        *sum += more_or_less(sound);
        Some(*sum)
    }));
    for &sound in a {
        let mut diagonal = row[0];
        row[0] += more_or_less(sound);
        for (at, &other) in b.iter().enumerate() {
            let replaced = diagonal + instead(sound, other);
            diagonal = row[at + 1];
            row[at + 1] = replaced
                .min(diagonal + more_or_less(sound))
                .min(row[at] + more_or_less(other));
        }
    }
    let cost = row.last().copied().unwrap_or(worst);
    1.0 - (cost as f32 / worst as f32).min(1.0)
}

fn is_vowel(sound: u8) -> bool {
    b"aeiou".contains(&sound)
}

fn more_or_less(sound: u8) -> u32 {
    if is_vowel(sound) {
        VOWEL_MORE_OR_LESS
    } else {
        CONSONANT_MORE_OR_LESS
    }
}

fn instead(a: u8, b: u8) -> u32 {
    let near = |group: &&str| group.as_bytes().contains(&a) && group.as_bytes().contains(&b);
    if a == b {
        0
    } else if is_vowel(a) && is_vowel(b) {
        VOWEL_FOR_VOWEL
    } else if NEIGHBOURS.iter().any(near) {
        NEAR
    } else {
        UNLIKE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        let names = names.iter().map(|&name| name.to_owned());
        Names::new(&Vocabulary::new(names).unwrap())
    }

    fn best(names: &Names, text: &str) -> Option<(String, String)> {
        let proposals = names.proposals(text);
        let first = proposals.first()?;
        Some((text[first.place.clone()].to_owned(), first.name.to_owned()))
    }

    #[test]
    fn what_sounds_like_a_name_is_proposed_in_all_four_languages() {
        for (name, text, heard) in [
            (
                "Kluvanta",
                "exchange data with Cluvanta, or not",
                "Cluvanta",
            ),
            ("Pipedrive", "away from pipe drive because", "pipe drive"),
            ("Fennix", "do I need phoenix on top", "phoenix"),
            (
                "Lumbrera",
                "que se llama Lumbraera en la feria",
                "Lumbraera",
            ),
            ("Zendesk", "dans une zaine d'esque frais", "zaine d'esque"),
            ("Brévanne", "Avec Brévan, nous avons", "Brévan"),
            ("智销宝", "听说置消保的价格", "置消保"),
            ("飞书", "公司現在都用飛熟開會", "飛熟"),
            ("Example.com", "look at example.com again", "example.com"),
        ] {
            let found = best(&names(&[name]), text);
            assert_eq!(found, Some((heard.to_owned(), name.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_written_already_is_left_and_so_is_what_sounds_otherwise() {
        for text in [
            "our contacts are in HubSpot at the moment",
            "the price is too high for us this year",
            "No tenemos presupuesto, gracias.",
            "我们今年没有预算。",
            "",
            "🙂 …",
        ] {
            assert_eq!(best(&names(&["HubSpot"]), text), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_not_looked_for_across_the_end_of_a_clause() {
        let names = names(&["Datadog"]);
        assert!(best(&names, "all the data dog food").is_some());
        let (heard, _) = best(&names, "we have the data. Dog food").unwrap();
        assert_eq!(heard, "data");
    }

    #[test]
    fn proposals_are_few_and_each_name_comes_once_a_place() {
        let many: Vec<String> = (b'a'..=b'z')
            .map(|c| format!("Corl{}ne", c as char))
            .collect();
        let names = Names::new(&Vocabulary::new(many).unwrap());
        let proposals = names.proposals("the offer from Korlehne arrived");
        assert_eq!(proposals.len(), MOST_PROPOSALS);
        let found: Vec<&str> = proposals.iter().map(|proposal| proposal.name).collect();
        let mut once = found.clone();
        once.dedup();
        assert_eq!(found, once);
    }
}
