//! Which stretches of a call's audio have arrived: a set, so that a chunk that comes twice, late
//! or out of order counts once.

use std::fmt;
use std::str::FromStr;

/// Stretches of time in milliseconds, ascending, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stretches(Vec<(i64, i64)>);

impl Stretches {
    /// Adds the stretch from `from` up to `to`.
    pub(super) fn add(&mut self, from: i64, to: i64) {
        if to <= from {
            return;
        }
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let touched = &self.0[first..last];
        let from = touched.first().map_or(from, |(start, _)| from.min(*start));
        let to = touched.last().map_or(to, |(_, end)| to.max(*end));
        self.0.splice(first..last, [(from, to)]);
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        for (from, to) in &other.0 {
            self.add(*from, *to);
        }
    }

    /// Their length together.
    pub(super) fn length(&self) -> i64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

impl fmt::Display for Stretches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{from}-{to}")?;
        }
        Ok(())
    }
}

impl FromStr for Stretches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut stretches = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let bounds = part.split_once('-');
            let bounds = bounds.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            let (from, to) = bounds.ok_or_else(|| format!("{part:?} is no stretch of audio"))?;
            stretches.add(from, to);
        }
        Ok(stretches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_and_number_give_the_same_stretches() {
        let chunks: Vec<(i64, i64)> = (0..50).map(|n| (n * 100, n * 100 + 100)).collect();
        let mut in_order = Stretches::default();
        chunks
            .iter()
            .for_each(|(from, to)| in_order.add(*from, *to));
        assert_eq!(in_order.to_string(), "0-5000");
        let mut shuffled = Stretches::default();
        for n in 0..150 {
            let (from, to) = chunks[(n * 17) % 50];
            shuffled.add(from, to);
        }
        assert_eq!(shuffled, in_order);
    }

    #[test]
    fn gaps_stay_until_they_are_filled() {
        let mut stretches: Stretches = "0-100,200-300".parse().unwrap();
        stretches.add(400, 500);
        stretches.add(450, 480);
        stretches.add(7, 7);
        assert_eq!(stretches.to_string(), "0-100,200-300,400-500");
        assert_eq!(stretches.length(), 300);
        stretches.merge(&"90-210".parse().unwrap());
        assert_eq!(stretches.to_string(), "0-300,400-500");
        assert_eq!(
            stretches.to_string().parse::<Stretches>().unwrap(),
            stretches
        );
        assert!("0-x".parse::<Stretches>().is_err());
    }
}
