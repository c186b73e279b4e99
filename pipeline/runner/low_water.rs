//! The low-water offset rides in the committed offset's metadata: the oldest record still needed
//! to rebuild the open calls.

const NAME: &str = "low-water=";

/// The metadata that says so.
pub(crate) fn write(low_water: i64) -> String {
    format!("{NAME}{low_water}")
}

/// Where to begin so that the state at `committed` comes out right: the low-water offset, or
/// `committed` itself when the metadata names none (someone else has set the offset: a replay).
pub(crate) fn read(metadata: &str, committed: i64) -> i64 {
    metadata
        .strip_prefix(NAME)
        .and_then(|offset| offset.parse::<i64>().ok())
        .filter(|offset| (0..=committed).contains(offset))
        .unwrap_or(committed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nonsense_is_the_committed_offset() {
        assert_eq!(read(&write(12), 40), 12);
        assert_eq!(read(&write(0), 0), 0);
        assert_eq!(read(&write(41), 40), 40);
        assert_eq!(read("", 40), 40);
        assert_eq!(read("low-water=x", 40), 40);
    }
}
