//! What is masked and what survives: a table per language, and what must hold of any text.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const TABLES: [(Language, &str); 4] = [
    (Language::En, include_str!("cases/en.txt")),
    (Language::Es, include_str!("cases/es.txt")),
    (Language::Fr, include_str!("cases/fr.txt")),
    (Language::Zh, include_str!("cases/zh.txt")),
];

/// A table's line as what was said and what must come of it.
fn case(line: &str) -> (String, String) {
    let (mut said, mut wanted) = (String::new(), String::new());
    let mut rest = line;
    while let Some((before, marked)) = rest.split_once('{') {
        let (kind, marked) = marked.split_once('|').unwrap();
        let (secret, after) = marked.split_once('}').unwrap();
        said.push_str(before);
        said.push_str(secret);
        wanted.push_str(before);
        wanted.push_str(&format!("[{kind}]"));
        rest = after;
    }
    said.push_str(rest);
    wanted.push_str(rest);
    (said, wanted)
}

fn cases(table: &str) -> impl Iterator<Item = &str> {
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_case_of_every_language_is_as_labelled() {
    let mut wrong = Vec::new();
    for (language, table) in TABLES {
        let (mut all, mut alike) = (0, 0);
        for line in cases(table) {
            let (said, wanted) = case(line);
            all += 1;
            alike += usize::from(said == wanted);
            let masked = mask(&said, language);
            if masked != wanted {
                wrong.push(format!(
                    "{language:?}\n  said   {said}\n  wanted {wanted}\n  masked {masked}"
                ));
            }
        }
        assert!(all >= 40, "{language:?}: {all} cases");
        assert!(
            alike * 3 >= all,
            "{language:?}: {alike} look-alikes of {all}"
        );
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn a_masked_text_stays_as_it_is() {
    for (language, table) in TABLES {
        for line in cases(table) {
            let once = mask(&case(line).0, language).into_owned();
            assert_eq!(mask(&once, language), once, "{line}");
        }
    }
}

/// Texts of the tables' own words in any order, where numbers meet what they never meet otherwise.
fn salad(random: &mut StdRng, table: &str) -> String {
    let words: Vec<&str> = cases(table)
        .flat_map(|line| line.split_inclusive([' ', '{', '|', '}', ',']))
        .collect();
    let count = random.random_range(1..60);
    (0..count)
        .map(|_| words[random.random_range(0..words.len())])
        .collect()
}

#[test]
fn of_any_text_masking_twice_is_masking_once() {
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..1_000 {
        for (language, table) in TABLES {
            let text = salad(&mut random, table);
            let once = mask(&text, language).into_owned();
            assert_eq!(mask(&once, language), once, "round {round}: {text}");
        }
    }
}

#[test]
fn any_characters_are_taken_and_what_has_no_number_or_at_is_left() {
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..3_000 {
        let text: String = (0..random.random_range(0..80))
            .map(|_| match random.random_range(0..4) {
                0 => char::from(random.random_range(0x20..0x7f_u8)),
                1 => char::from_u32(random.random_range(0x4e00..0x9fff)).unwrap(),
                2 => char::from_u32(random.random_range(0..0x3000)).unwrap_or('\u{301}'),
                _ => char::from(random.random_range(b'0'..=b'9')),
            })
            .collect();
        for (language, _) in TABLES {
            let _ = mask(&text, language);
        }
    }
    for (language, text) in [
        (
            Language::En,
            "they are happy with the supplier, and the boss agrees",
        ),
        (Language::Es, "están contentos con el proveedor"),
        (Language::Fr, "ils sont contents du fournisseur"),
        (Language::Zh, "他们对供应商很满意"),
        (Language::En, ""),
    ] {
        assert!(matches!(mask(text, language), Cow::Borrowed(same) if same == text));
    }
    let long = "one ".repeat(2_500);
    mask(&long, Language::En);
}

/// A card number of a brand with Luhn's digit.
fn card(random: &mut StdRng) -> String {
    let prefixes = ["4", "51", "55", "2221", "34", "37", "6011", "62"];
    let prefix = prefixes[random.random_range(0..prefixes.len())];
    let length = if matches!(prefix, "34" | "37") {
        15
    } else {
        16
    };
    let mut digits: Vec<u32> = prefix.bytes().map(|byte| u32::from(byte - b'0')).collect();
    while digits.len() < length - 1 {
        digits.push(random.random_range(0..10));
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match place % 2 {
            0 if digit > 4 => digit * 2 - 9,
            0 => digit * 2,
            _ => digit,
        })
        .sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().map(u32::to_string).collect()
}

fn words(language: Language) -> [&'static str; 10] {
    match language {
        Language::En => [
            "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
        ],
        Language::Es => [
            "cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve",
        ],
        Language::Fr => [
            "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf",
        ],
        Language::Zh => ["零", "一", "二", "三", "四", "五", "六", "七", "八", "九"],
    }
}

/// A number as it is written or said: in one, in groups, digit by digit.
fn given(random: &mut StdRng, number: &str, language: Language) -> String {
    let spoken = |digit: char| words(language)[digit.to_digit(10).unwrap() as usize];
    let groups: Vec<String> = number
        .chars()
        .collect::<Vec<_>>()
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    let said = |group: &String| group.chars().map(spoken).collect::<Vec<_>>().join(" ");
    match random.random_range(0..5) {
        0 => number.to_owned(),
        1 => groups.join(" "),
        2 => groups.join("-"),
        3 => groups.iter().map(said).collect::<Vec<_>>().join(" "),
        _ => groups.iter().map(said).collect::<Vec<_>>().join(", "),
    }
}

#[test]
fn every_card_is_masked_however_it_is_given() {
    let mut random = StdRng::seed_from_u64(13);
    for _ in 0..2_000 {
        let number = card(&mut random);
        for (language, _) in TABLES {
            let given = given(&mut random, &number, language);
            let text = format!("[{given}]");
            assert_eq!(mask(&text, language), format!("[{CARD}]"), "{number}");
        }
    }
}

#[test]
fn every_iban_is_masked_and_one_with_a_wrong_digit_is_no_iban() {
    let mut random = StdRng::seed_from_u64(14);
    for _ in 0..1_000 {
        let account: String = (0..18)
            .map(|_| char::from(random.random_range(b'0'..=b'9')))
            .collect();
        let rest = format!("{account}131400")
            .bytes()
            .fold(0_u32, |rest, byte| {
                (rest * 10 + u32::from(byte - b'0')) % 97
            });
        let check = 98 - rest;
        let number = format!("{check:02}{account}");
        for (language, _) in TABLES {
            let given = given(&mut random, &number, language);
            assert_eq!(
                mask(&format!("DE {given}."), language),
                format!("{IBAN}."),
                "{number}"
            );
        }
        let wrong = format!("DE{:02}{account}", (check + 1) % 97 + 1);
        assert!(!mask(&wrong, Language::En).contains(IBAN), "{wrong}");
    }
}

#[test]
fn prices_dates_and_quantities_survive() {
    let mut random = StdRng::seed_from_u64(15);
    let units = [
        (Language::En, ["dollars", "users", "days"]),
        (Language::Es, ["euros", "usuarios", "días"]),
        (Language::Fr, ["euros", "utilisateurs", "jours"]),
        (Language::Zh, ["元", "个用户", "天"]),
    ];
    for _ in 0..2_000 {
        for (language, units) in &units {
            let unit = units[random.random_range(0..3)];
            let (a, b, c) = (
                random.random_range(1..1_000_000_u64),
                random.random_range(0..100),
                random.random_range(1_000..10_000_000_000_u64),
            );
            let (year, month, day) = (
                random.random_range(1990..2040),
                random.random_range(1..13),
                random.random_range(1..29),
            );
            for text in [
                format!("{a}.{b:02} {unit}"),
                format!("${a},{b:02}"),
                format!("{c} {unit}"),
                format!("{year}-{month:02}-{day:02} {:02}:{:02}", b % 24, b % 60),
                format!("{day:02}/{month:02}/{year}"),
                format!("{day:02}.{month:02}.{year}"),
            ] {
                assert_eq!(mask(&text, *language), text, "{language:?}");
            }
        }
    }
}
