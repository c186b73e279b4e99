//! The whole chain as a user runs it: `coach run all` against a broker and a PostgreSQL of its own.

use std::time::Duration;

use harness::{Kafka, Postgres, Process, Signal};
use pipeline::config::Config;
use pipeline::producer::Producer;
use pipeline::{Sealer, database, seal};

use crate::Result;

/// Signs the reps' tokens; known to this bench only.
const TOKEN_SECRET: &str = "the bench's own secret, of enough bytes";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The chain.
pub struct Chain {
    _kafka: Kafka,
    _postgres: Postgres,
    stages: Process,
    client: Client,
    /// Where the gateway listens.
    pub gateway: String,
}

/// What brings calls in.
#[derive(Clone)]
pub struct Client {
    pub producer: Producer,
    pub sealer: Sealer,
}

impl Chain {
    /// Starts everything and waits until it is ready.
    pub async fn start() -> Result<Self> {
        let kafka = Kafka::start(1).await;
        let postgres = Postgres::start().await;
        let database_url = postgres.create_database().await;
        let gateway = format!("127.0.0.1:{}", harness::free_port());
        let telemetry = format!("127.0.0.1:{}", harness::free_port());
        let master_key = seal::MasterKey::generate();
        let environment = [
            (
                "SALES_COACH__KAFKA__BOOTSTRAP",
                kafka.bootstrap().to_owned(),
            ),
            ("SALES_COACH__DATABASE__URL", database_url),
            ("SALES_COACH_MASTER_KEY", master_key.to_string()),
            ("SALES_COACH__GATEWAY__LISTEN", gateway.clone()),
            (
                "SALES_COACH__GATEWAY__TOKEN_SECRET",
                TOKEN_SECRET.to_owned(),
            ),
            ("SALES_COACH__TELEMETRY__LISTEN", telemetry.clone()),
        ];
        let pairs: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let coach = env!("CARGO_BIN_EXE_coach");
        let mut topics = Process::spawn(coach, &["topics", "create"], &pairs);
        topics.wait(READY_WITHIN).await;
        let stages = Process::spawn(coach, &["run", "all"], &pairs);
        let ready = format!("http://{telemetry}/ready");
        harness::eventually(READY_WITHIN, "the chain to be ready", async || {
            let response = reqwest::get(&ready).await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
        let config = Config::load(None, environment.map(|(k, v)| (k.to_owned(), v)))?;
        let pool = database::connect(&config.section("database")?).await?;
        let keys = seal::DatabaseKeys::open(pool).await?;
        let sealer = Sealer::new(seal::MasterKey::from_base64(&master_key)?, keys);
        let codec = std::sync::Arc::new(schemas::Codec::new()?);
        let producer = Producer::new(&config.section("kafka")?, codec)?;
        let client = Client { producer, sealer };
        Ok(Self {
            _kafka: kafka,
            _postgres: postgres,
            stages,
            client,
            gateway,
        })
    }

    /// What brings calls in.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A token for a rep's screen.
    pub fn token(&self, rep: &str) -> Result<String> {
        let hour = Duration::from_secs(3600);
        Ok(consumers::gateway::mint_token(
            TOKEN_SECRET,
            "bench",
            rep,
            hour,
        )?)
    }

    /// Stops it cleanly.
    pub async fn stop(mut self) -> Result<()> {
        self.stages.signal(Signal::Term);
        let status = self.stages.wait(Duration::from_secs(30)).await;
        if !status.success() {
            return Err(format!("coach run all: {status}\n{}", self.stages.stderr()).into());
        }
        Ok(())
    }
}
