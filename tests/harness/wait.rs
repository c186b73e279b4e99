use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

/// Pause between two attempts of [`eventually`].
const PAUSE: Duration = Duration::from_millis(20);

/// Attempts until one gives a value, which it returns; panics after `deadline`, naming `what`.
///
/// An attempt that hangs counts against the deadline too.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let attempts = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(deadline, attempts).await {
        Ok(value) => value,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}

/// A port nobody listens on, given only once to this process.
///
/// It lies below the range outgoing connections are given theirs from, so none of them takes it meanwhile.
pub fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = 15_000 + (Uuid::new_v4().as_u128() % 17_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

/// `name` with a random ending, for topics, groups and databases that no other test touches.
pub fn unique(name: &str) -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{name}-{}", &random[..8])
}
