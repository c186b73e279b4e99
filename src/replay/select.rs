//! Which records, as options of the command line.

use std::time::SystemTime;

use pipeline::replay::{Offsets, Selection};
use serde::{Deserialize, Serialize};

/// Which records; without any of these, all.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct Args {
    /// From this time on: 2026-11-23T09:00:00Z, or 30d for 30 days ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    /// Only these stretches: TOPIC/PARTITION:FROM-TO, up to and without TO, like
    /// calls.insights/3:100-200; may be given several times
    #[arg(long, value_name = "STRETCH")]
    pub offsets: Vec<Offsets>,
    /// Only this customer organisation's
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this call's
    #[arg(long)]
    pub call: Option<String>,
}

impl Args {
    /// As the pipeline takes it.
    ///
    /// # Errors
    /// When the times are the wrong way round, or stretches are of another topic.
    pub fn selection(&self, topics: &[String]) -> anyhow::Result<Selection> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            anyhow::bail!("--from is not before --to: nothing would be selected");
        }
        for offsets in &self.offsets {
            if !topics.contains(&offsets.topic) {
                anyhow::bail!(
                    "--offsets names topic {}, and this reads {}",
                    offsets.topic,
                    topics.join(", ")
                );
            }
        }
        Ok(Selection {
            from: self.from,
            to: self.to,
            offsets: self.offsets.clone(),
            tenant: self.tenant.clone(),
            call: self.call.clone(),
        })
    }
}

/// A time in milliseconds since 1970, given as such or as a time ago.
fn time(text: &str) -> Result<i64, String> {
    let time = humantime::parse_rfc3339_weak(text).ok().or_else(|| {
        let ago = humantime::parse_duration(text).ok()?;
        SystemTime::now().checked_sub(ago)
    });
    let time = time.ok_or("expected a time (2026-11-23T09:00:00Z) or a time ago (30d)")?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let ms = since.map_err(|_| "expected a time after 1970")?.as_millis();
    i64::try_from(ms).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_such_or_ago() {
        assert_eq!(time("2026-11-23T09:00:00Z"), Ok(1_795_424_400_000));
        let ago = time("2h").unwrap();
        let now = pipeline::clock::now();
        assert!((now - ago - 2 * 3_600_000).abs() < 60_000, "{ago}");
        assert!(time("yesterday").unwrap_err().contains("30d"));
    }

    #[test]
    fn what_would_select_nothing_is_refused() {
        let topics = ["calls.insights".to_owned()];
        let args = Args {
            from: Some(2),
            to: Some(1),
            ..Args::default()
        };
        assert!(args.selection(&topics).is_err());
        let args = Args {
            offsets: vec!["coaching.tips/1:0-5".parse().unwrap()],
            ..Args::default()
        };
        let error = args.selection(&topics).unwrap_err().to_string();
        assert!(error.contains("coaching.tips") && error.contains("calls.insights"));
    }
}
