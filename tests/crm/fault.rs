//! What a server does wrong, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One misbehaviour, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset; nothing was written.
    ResetBefore,
    /// The connection is reset after the request was carried out.
    ResetAfter,
    /// No answer, ever; nothing was written.
    HangBefore,
    /// No answer, ever, though the request was carried out.
    HangAfter,
    /// The request is carried out after this time.
    Slow(Duration),
    /// The request is carried out, and its answer is JSON cut in the middle.
    Malformed,
    /// 503; nothing was written.
    Unavailable,
    /// Every token that expires has expired: 401.
    ExpiredTokens,
    /// A limit is reached; nothing was written. Salesforce knows a daily one and one of requests at once,
    /// HubSpot the three of [`Policy`].
    Limit(Policy),
    /// Some of a batch are not written: HubSpot answers 207, Salesforce UNABLE_TO_LOCK_ROW.
    Partly,
}

/// HubSpot's limits by the name it gives them. Salesforce takes `Daily` for its daily limit and the others
/// for its limit of long requests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A burst within ten seconds.
    TenSecondlyRolling,
    /// A burst within a second.
    Secondly,
    /// The day's requests.
    Daily,
}

impl Policy {
    /// As HubSpot's `policyName`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TenSecondlyRolling => "TEN_SECONDLY_ROLLING",
            Self::Secondly => "SECONDLY",
            Self::Daily => "DAILY",
        }
    }
}

impl Fault {
    /// Every fault after which the same request may succeed within seconds.
    pub fn passing() -> Vec<Self> {
        vec![
            Self::ResetBefore,
            Self::ResetAfter,
            Self::HangBefore,
            Self::HangAfter,
            Self::Slow(Duration::from_millis(150)),
            Self::Malformed,
            Self::Unavailable,
            Self::ExpiredTokens,
            Self::Limit(Policy::TenSecondlyRolling),
            Self::Limit(Policy::Secondly),
            Self::Partly,
        ]
    }

    /// Every fault there is: [`Fault::passing`] and the daily limit.
    pub fn all() -> Vec<Self> {
        let mut all = Self::passing();
        all.push(Self::Limit(Policy::Daily));
        all
    }
}

/// When faults come: those that were asked for first, then one that stays, then drawn ones.
#[derive(Default)]
pub(crate) struct Faults {
    next: VecDeque<Fault>,
    always: Option<Fault>,
    drawn: Option<Drawn>,
}

struct Drawn {
    random: StdRng,
    share: f64,
    kinds: Vec<Fault>,
}

impl Faults {
    pub(crate) fn push(&mut self, fault: Fault) {
        self.next.push_back(fault);
    }

    pub(crate) fn stay(&mut self, fault: Option<Fault>) {
        self.always = fault;
    }

    pub(crate) fn draw(&mut self, seed: u64, share: f64, kinds: &[Fault]) {
        assert!(!kinds.is_empty(), "no faults to draw from");
        self.drawn = Some(Drawn {
            random: StdRng::seed_from_u64(seed),
            share,
            kinds: kinds.to_vec(),
        });
    }

    /// Behaves from now on.
    pub(crate) fn behave(&mut self) {
        *self = Self::default();
    }

    /// The fault of the next request, with a number that decides which of a batch it meets.
    pub(crate) fn take(&mut self) -> Option<(Fault, u64)> {
        if let Some(fault) = self.next.pop_front().or(self.always) {
            return Some((fault, 0));
        }
        let drawn = self.drawn.as_mut()?;
        // Always as many draws, so that the seed alone decides the n-th request's fault.
        let (hit, kind, which) = (
            drawn.random.random_range(0.0..1.0) < drawn.share,
            drawn.random.random_range(0..drawn.kinds.len()),
            drawn.random.random_range(0..1_000_000_u64),
        );
        hit.then(|| (drawn.kinds[kind], which))
    }
}

/// Of a batch, every second item is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partly(pub(crate) u64);

impl Partly {
    pub(crate) fn fails(self, index: usize) -> bool {
        (index as u64).wrapping_add(self.0).is_multiple_of(2)
    }
}
