//! The way to one CRM: HTTP, at the pace that it allows.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus::IntCounterVec;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::super::pace::{Limit, Pace};
use super::Trouble;

/// How long a call waits for its turn, before whoever makes it hears of it.
const MOMENT: Duration = Duration::from_millis(500);

/// How a CRM is reached.
#[derive(Clone, Debug)]
pub struct LineSettings {
    /// How long an answer may take.
    pub timeout: Duration,
    /// Counts API calls, by CRM and answer's status.
    pub calls: IntCounterVec,
}

/// What the CRM said of the day's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Calls made since this process began.
    pub calls: u64,
    /// Used of the day's.
    pub used: Option<i64>,
    /// The day's.
    pub most: Option<i64>,
}

/// The way to one CRM.
pub struct Line {
    crm: &'static str,
    client: Result<reqwest::Client, String>,
    pace: Pace,
    counter: IntCounterVec,
    calls: AtomicU64,
    used: AtomicI64,
    most: AtomicI64,
}

/// An answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Line {
    pub(super) fn new(crm: &'static str, settings: LineSettings) -> Self {
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("sales-coach")
            .build();
        Self {
            crm,
            client: client.map_err(|error| error.to_string()),
            pace: Pace::new(None),
            counter: settings.calls,
            calls: AtomicU64::new(0),
            used: AtomicI64::new(-1),
            most: AtomicI64::new(-1),
        }
    }

    /// What the CRM said of the day's calls, and how many were made.
    pub fn usage(&self) -> Usage {
        let known = |number: &AtomicI64| Some(number.load(Ordering::Relaxed)).filter(|n| *n >= 0);
        Usage {
            calls: self.calls.load(Ordering::Relaxed),
            used: known(&self.used),
            most: known(&self.most),
        }
    }

    /// Makes no call for so long.
    pub(super) fn hold(&self, pause: Duration) {
        self.pace.hold(Instant::now(), pause);
    }

    pub(super) fn client(&self) -> Result<&reqwest::Client, Trouble> {
        self.client.as_ref().map_err(|error| Trouble::Shut {
            code: "client".to_owned(),
            words: error.clone(),
        })
    }

    /// Asks once the pace allows it.
    ///
    /// # Errors
    /// [`Trouble::TooFast`] when that takes longer than a moment; [`Trouble::Later`] when no whole
    /// answer came: whether it was carried out is not known.
    pub(super) async fn ask(&self, request: RequestBuilder) -> Result<Answer, Trouble> {
        while let Err(wait) = self.pace.take(Instant::now()) {
            if wait > MOMENT {
                return Err(Trouble::TooFast(wait));
            }
            tokio::time::sleep(wait).await;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let count = |status: &str| self.counter.with_label_values(&[self.crm, status]).inc();
        let lost = |error: reqwest::Error| {
            count("none");
            let code = if error.is_timeout() {
                "timeout"
            } else {
                "connection"
            };
            Trouble::Later {
                code: code.to_owned(),
                // The outer errors repeat the address, which may hold an id.
                words: innermost(&error),
                after: None,
            }
        };
        let answer = request.send().await;
        self.pace.answered(Instant::now());
        let answer = answer.map_err(lost)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.map_err(lost)?;
        count(status.as_str());
        self.learn(&headers);
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            // Of an error the status says enough; an answer that should tell ids must be whole.
            Err(_) if !status.is_success() => Value::Null,
            Err(error) => {
                return Err(Trouble::Later {
                    code: "malformed".to_owned(),
                    words: error.to_string(),
                    after: None,
                });
            }
        };
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    /// Takes in what the headers say of limits.
    fn learn(&self, headers: &HeaderMap) {
        let number = |name: &str| number(headers, name);
        let burst = (
            number("x-hubspot-ratelimit-max"),
            number("x-hubspot-ratelimit-interval-milliseconds"),
            number("x-hubspot-ratelimit-remaining"),
        );
        if let (Some(calls), Some(interval), Some(left)) = burst {
            let limit = Limit {
                calls: usize::try_from(calls).unwrap_or(usize::MAX).max(1),
                interval: Duration::from_millis(interval.unsigned_abs()),
            };
            self.pace
                .told(Instant::now(), limit, usize::try_from(left).unwrap_or(0));
        }
        let daily = match (
            number("x-hubspot-ratelimit-daily"),
            number("x-hubspot-ratelimit-daily-remaining"),
        ) {
            (Some(most), Some(left)) => Some((most - left, most)),
            _ => salesforce_usage(headers),
        };
        if let Some((used, most)) = daily {
            self.used.store(used, Ordering::Relaxed);
            self.most.store(most, Ordering::Relaxed);
        }
    }
}

/// `api-usage=18/15000`.
fn salesforce_usage(headers: &HeaderMap) -> Option<(i64, i64)> {
    let header = headers.get("sforce-limit-info")?.to_str().ok()?;
    let mut parts = header.split([',', ';']).map(str::trim);
    let usage = parts.find_map(|part| part.strip_prefix("api-usage="))?;
    let (used, most) = usage.split_once('/')?;
    Some((used.parse().ok()?, most.parse().ok()?))
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

impl Answer {
    /// How long the CRM asks to wait: seconds, or a date.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<f64>() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(
            date.duration_since(std::time::SystemTime::now())
                .unwrap_or_default(),
        )
    }

    /// A text in the body.
    pub(super) fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salesforces_usage_is_found_among_other_limits() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sforce-limit-info", text.parse().unwrap());
            salesforce_usage(&headers)
        };
        assert_eq!(of("api-usage=18/15000"), Some((18, 15000)));
        assert_eq!(
            of("api-usage=18/15000; per-app-api-usage=1/2(appName=x)"),
            Some((18, 15000))
        );
        assert_eq!(of("something else"), None);
    }
}
