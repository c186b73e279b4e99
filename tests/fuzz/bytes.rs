//! Bytes as they come from outside: anything, and what is nearly right.

use proptest::collection::vec;
use proptest::prelude::*;

/// A change to bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Drop(prop::sample::Index),
    Repeat(prop::sample::Index),
}

/// Anything, or one of `valid` with up to a few changes; none leaves it as it is.
pub fn near(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (prop::sample::select(valid), vec(change(), 0..6)).prop_map(|(bytes, changes)| {
            changes
                .into_iter()
                .fold(bytes, |bytes, change| change.to(bytes))
        });
    prop_oneof![
        1 => vec(any::<u8>(), 0..512),
        6 => changed,
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        at().prop_map(Change::Cut),
        (at(), vec(any::<u8>(), 1..16)).prop_map(|(at, more)| Change::Insert(at, more)),
        at().prop_map(Change::Drop),
        at().prop_map(Change::Repeat),
    ]
}

impl Change {
    fn to(self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        match self {
            Self::Flip(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more);
            }
            Self::Drop(at) => drop(bytes.remove(at.index(bytes.len()))),
            Self::Repeat(at) => {
                let rest = bytes[at.index(bytes.len())..].to_vec();
                bytes.extend(rest);
            }
        }
        bytes
    }
}
