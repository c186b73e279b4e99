use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes taken over at once.
const CHUNK: usize = 64 * 1024;

/// How a wire carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Nothing gets from the client to the server.
    pub cut_up: bool,
    /// Nothing gets from the server to the client.
    pub cut_down: bool,
    /// Each piece takes so much longer, in each direction.
    pub delay: Duration,
}

/// A TCP proxy on 127.0.0.1 between a client and a server, which a test can cut and slow down.
///
/// While it is cut its connections stay open and silent, as when a network loses every packet; what was sent meanwhile
/// arrives once it is whole again. Must be made within the runtime that is to carry it; gone when dropped.
pub struct Wire {
    port: u16,
    flow: watch::Sender<Flow>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// A wire from a free port to the server on `port`.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn to(port: u16) -> Self {
        Self::listen(crate::free_port(), port).await
    }

    /// A wire from `listen` to the server on `port`, both on 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn listen(listen: u16, port: u16) -> Self {
        let listener = match TcpListener::bind(("127.0.0.1", listen)).await {
            Ok(listener) => listener,
            Err(error) => panic!("a wire cannot listen on port {listen}: {error}"),
        };
        let (flow, watching) = watch::channel(Flow::default());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, watching.clone()));
            }
        });
        Self {
            port: listen,
            flow,
            accepting,
        }
    }

    /// Where clients find it: `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where clients find it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries like this from now on.
    pub fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection until either side ends it.
async fn carry(client: TcpStream, port: u16, flow: watch::Receiver<Flow>) {
    // A server that is away refuses; so does the wire, by dropping its client.
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    // What goes slower than asked for is of no use; an error means that the connection is gone.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, flow.clone(), |flow| flow.cut_up) => {}
        () = pump(from_server, to_client, flow, |flow| flow.cut_down) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    cut: impl Fn(&Flow) -> bool,
) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = match from.read(&mut chunk).await {
            Ok(length) => length,
            Err(_) => return,
        };
        let delay = match flow.wait_for(|flow| !cut(flow)).await {
            Ok(flow) => flow.delay,
            Err(_) => return,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The end of the stream waits for the cut to heal as the bytes do.
        if length == 0 || to.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}
