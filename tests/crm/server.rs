//! A server on a free port that ends when dropped.

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::line::{Cut, Lines};

pub(crate) struct Server {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Server {
    /// A listener on a free port, with its URL.
    pub(crate) async fn listen() -> (TcpListener, String) {
        let listener = match TcpListener::bind(("127.0.0.1", 0)).await {
            Ok(listener) => listener,
            Err(error) => panic!("no port for a test server: {error}"),
        };
        match listener.local_addr() {
            Ok(address) => (listener, format!("http://{address}")),
            Err(error) => panic!("no address of a test server: {error}"),
        }
    }

    pub(crate) fn serve(listener: TcpListener, url: String, router: Router) -> Self {
        let service = router.into_make_service_with_connect_info::<Cut>();
        let serving = tokio::spawn(async move {
            // Serves until it is aborted; it never ends with an error.
            let _ = axum::serve(Lines(listener), service).await;
        });
        Self { url, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What both servers offer to tests.
macro_rules! controls {
    ($server:ty) => {
        impl $server {
            /// Where it listens: `http://127.0.0.1:port`.
            pub fn url(&self) -> &str {
                &self.server.url
            }

            /// The next request meets this fault; several wait for one request each.
            pub fn next(&self, fault: $crate::Fault) {
                self.account.front().faults().push(fault);
            }

            /// Every request meets this fault, until [`Self::behave`].
            pub fn always(&self, fault: $crate::Fault) {
                self.account.front().faults().stay(Some(fault));
            }

            /// From now on a share of requests (0 to 1) meets one of these faults, drawn from the seed.
            pub fn misbehave(&self, seed: u64, share: f64, kinds: &[$crate::Fault]) {
                self.account.front().faults().draw(seed, share, kinds);
            }

            /// Does nothing wrong from now on.
            pub fn behave(&self) {
                self.account.front().faults().behave();
            }

            /// Every token that can expire has expired.
            pub fn expire_tokens(&self) {
                $crate::front::Account::expire_tokens(&*self.account);
            }

            /// Every request so far.
            pub fn requests(&self) -> Vec<$crate::Request> {
                self.account.front().journal().requests.clone()
            }

            /// Every write so far.
            pub fn writes(&self) -> Vec<$crate::Write> {
                self.account.front().journal().writes.clone()
            }
        }
    };
}
pub(crate) use controls;
