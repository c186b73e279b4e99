use std::path::Path;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::attended::Attended;
use crate::unique;

/// A real PostgreSQL server on 127.0.0.1, empty at the start, gone when dropped or when this process ends.
pub struct Postgres {
    server: Arc<Attended>,
}

impl Postgres {
    /// Starts a server and waits until it serves, which takes a second or two.
    ///
    /// # Panics
    /// When it does not start; the text holds the end of its log.
    pub async fn start() -> Self {
        Self {
            server: Attended::start("postgresql", Vec::new()).await,
        }
    }

    /// The URL of the server's first database, password included, for a superuser.
    pub fn url(&self) -> &str {
        self.server.address()
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        let address = self
            .url()
            .rsplit_once('@')
            .map_or("", |(_, address)| address);
        let port = address.split([':', '/']).nth(1);
        match port.and_then(|port| port.parse().ok()) {
            Some(port) => port,
            None => panic!("no port in the server's url"),
        }
    }

    /// The server's folder: `log` is its log, `pid` its process id and start time.
    pub fn folder(&self) -> &Path {
        self.server.folder()
    }

    /// Makes a new empty database and gives its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn create_database(&self) -> String {
        self.create("").await
    }

    /// Makes a copy of the database at `url`, to which nobody may be connected, and gives the copy's URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn copy_database(&self, url: &str) -> String {
        let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        self.create(&format!("TEMPLATE \"{name}\"")).await
    }

    async fn create(&self, how: &str) -> String {
        let name = unique("test");
        let created = async {
            let mut connection = PgConnection::connect(self.url()).await?;
            let statement = AssertSqlSafe(format!("CREATE DATABASE \"{name}\" {how}"));
            sqlx::query(statement).execute(&mut connection).await?;
            connection.close().await
        };
        if let Err(error) = created.await {
            panic!("creating a database failed: {error}");
        }
        match self.url().rsplit_once('/') {
            Some((server, _)) => format!("{server}/{name}"),
            None => panic!("no database in the server's url"),
        }
    }

    /// Ends the server as a crash would; committed data stays.
    pub async fn kill(&self) {
        self.server.tell("kill", 1).await;
    }

    /// Stops the server in good order; its data stays.
    pub async fn stop(&self) {
        self.server.tell("stop", 1).await;
    }

    /// Freezes the server (SIGSTOP): it keeps its connections and takes no new ones.
    pub async fn pause(&self) {
        self.server.tell("pause", 1).await;
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) {
        self.server.tell("resume", 1).await;
    }

    /// Starts a killed or stopped server on its old port and data and waits until it serves.
    pub async fn restart(&self) {
        self.server.tell("start", 1).await;
    }
}

/// The one server that all tests of this process share; started by the first that asks.
///
/// A test that stops the server starts its own with [`Postgres::start`].
pub async fn postgres() -> &'static Postgres {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED.get_or_init(Postgres::start).await
}
