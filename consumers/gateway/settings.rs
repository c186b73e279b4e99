//! How the gateway is set up.

use std::net::SocketAddr;
use std::time::Duration;

use pipeline::config::duration;
use pipeline::{Secret, Section};
use serde::{Deserialize, Serialize};

use super::calls::Limits;
use super::token::SECRET_BYTES;

/// How the gateway is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Secret that signs the reps' tokens, at least 32 bytes. The same for all gateways.
    pub token_secret: Secret,
    /// Whether softphones reach the gateway over HTTPS (through a proxy): cookies are then sent
    /// over HTTPS only.
    pub https: bool,
    /// Origins whose own pages may call the API with a bearer token, such as
    /// `https://phone.example.com`.
    pub allowed_origins: Vec<String>,
    /// Origins that may show the panel in a frame; the panel's own always may. Frames of another
    /// site need `https`, for browsers send no cookie to them otherwise.
    pub frame_ancestors: Vec<String>,
    /// Time between heartbeats on a quiet stream.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// A client that takes nothing for so long is disconnected.
    #[serde(with = "duration")]
    pub stalled: Duration,
    /// How far to read back at the start, to know the calls that are open; also how long a call
    /// of which nothing is heard stays open.
    #[serde(with = "duration")]
    pub lookback: Duration,
    /// How long an ended call stays, for a rep who reconnects to see the summary.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Most calls kept at once.
    pub calls: usize,
    /// Most events kept of one call; the oldest go first.
    pub events_per_call: usize,
    /// Most events waiting for one screen; a screen that falls further behind is disconnected,
    /// and resumes.
    pub waiting_events: usize,
    /// Most screens of one rep at once.
    pub screens_per_rep: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            token_secret: Secret::default(),
            https: false,
            allowed_origins: Vec::new(),
            frame_ancestors: Vec::new(),
            heartbeat: Duration::from_secs(15),
            stalled: Duration::from_secs(30),
            lookback: Duration::from_secs(4 * 60 * 60),
            grace: Duration::from_secs(10 * 60),
            calls: 20_000,
            events_per_call: 5_000,
            waiting_events: 256,
            screens_per_rep: 8,
        }
    }
}

impl Settings {
    /// Everything that is wrong with the settings, one line each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.token_secret.reveal().len() < SECRET_BYTES {
            problems.push(format!(
                "token_secret must have at least {SECRET_BYTES} bytes, for example from `openssl rand -base64 32`"
            ));
        }
        for origin in self.allowed_origins.iter().chain(&self.frame_ancestors) {
            if !is_origin(origin) {
                problems.push(format!(
                    "{origin:?} is no origin: expected scheme and host, such as https://phone.example.com"
                ));
            }
        }
        let counts = [
            ("heartbeat", !self.heartbeat.is_zero()),
            ("stalled", !self.stalled.is_zero()),
            ("lookback", !self.lookback.is_zero()),
            ("calls", self.calls > 0),
            ("events_per_call", self.events_per_call > 1),
            ("waiting_events", self.waiting_events > 0),
            ("screens_per_rep", self.screens_per_rep > 0),
        ];
        for (name, enough) in counts {
            if !enough {
                problems.push(format!("{name} is too small"));
            }
        }
        problems
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            calls: self.calls,
            events_per_call: self.events_per_call,
            waiting: self.waiting_events,
            screens_per_rep: self.screens_per_rep,
            grace: self.grace,
            silence: self.lookback,
        }
    }
}

impl Section for Settings {
    const NAME: &'static str = "gateway";

    fn problems(&self) -> Vec<String> {
        self.problems()
    }
}

/// Scheme, host and port, nothing else: what goes into a security header must be no more.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.:[]*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_at_once() {
        let settings = Settings {
            allowed_origins: vec!["phone.example.com".into()],
            frame_ancestors: vec!["https://crm.example.com; script-src *".into()],
            waiting_events: 0,
            ..Settings::default()
        };
        assert_eq!(settings.problems().len(), 4, "{:?}", settings.problems());
    }

    #[test]
    fn settings_with_a_secret_are_fine() {
        let settings = Settings {
            token_secret: Secret::new("a secret of thirty-two bytes, not a real one"),
            frame_ancestors: vec!["https://*.example.com:8443".into()],
            ..Settings::default()
        };
        assert_eq!(settings.problems(), Vec::<String>::new());
    }
}
