//! `coach demo`: broker, stages, gateway and database in this one process, and a call played
//! through them.

mod broker;
mod screen;
mod summary;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use consumers::gateway;
use consumers::registry::{self, Process};
use pipeline::Decoder;
use pipeline::config::Config;
use pipeline::producer::Producer;
use pipeline::reader::{From, Reader, Replayed};
use pipeline::seal::MasterKey;
use producers::call::Pace;
use producers::{audio, samples, wav};
use schemas::{Insight, Item, Tip, Utterance};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::call::{About, speed};
use crate::{shutdown, start};
use screen::Screen;

/// Plays a sales call through the whole pipeline in this one process: an embedded broker, all
/// stages, the softphone gateway and SQLite.
///
/// The terminal shows the call as it happens; the printed address shows what the rep sees. Without
/// FILE a sample call that ships is played.
#[derive(clap::Args)]
pub struct Args {
    /// Recording to play (WAV, one or two channels; with two the rep is left)
    file: Option<PathBuf>,
    #[command(flatten)]
    about: About,
    /// 1 is real time, 4 four times as fast
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Leave when the call is over, instead of serving the panel until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Where the database, its key and the log are kept [default: the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Port of the softphone panel [default: 8080, or any free one when that is taken]
    #[arg(long)]
    port: Option<u16>,
}

/// How long the softphone's token is good for.
const TOKEN: Duration = Duration::from_secs(12 * 60 * 60);
/// How long stages may take to be ready, and the last events to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Plays the call.
///
/// # Errors
/// When the file cannot be played, models are missing, or a stage breaks.
pub async fn run(args: Args, path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let folder = folder(args.data.as_deref())?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => samples::unpack(&args.about.language, &folder)
            .with_context(|| format!("cannot write to {}", folder.display()))?,
    };
    let audio = audio::read(&file)?;
    if audio.missing > 0 {
        eprintln!("coach: the file is cut off, playing what is there");
    }
    let recording = wav::Recording::new(&audio)?;

    let shutdown = shutdown::on_signal()?;
    let broker = broker::start()?;
    let config = configure(&args, &folder, broker.bootstrap_servers(), path)?;
    start::log_to(&config, &folder.join("demo.log"))?;
    let mut demo = Demo::open(config, shutdown).await?;
    demo.wait_until_ready().await?;
    let done = demo.play(&args, &recording).await;
    let code = match done {
        Ok(()) => {
            if !args.exit {
                demo.serve().await?;
            }
            ExitCode::SUCCESS
        }
        Err(error) => return Err(demo.explain(error).await),
    };
    demo.stop().await?;
    Ok(code)
}

/// Where the demo keeps what it makes.
fn folder(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match chosen {
        Some(folder) => folder.to_owned(),
        None => {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
            data.or_else(|| home.map(|home| home.join(".local/share")))
                .context("no home folder: choose one with --data DIR")?
                .join("sales-coach/demo")
        }
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    Ok(folder)
}

/// The configuration of a demo: what the user configured, with broker, database and keys replaced.
fn configure(
    args: &Args,
    folder: &Path,
    bootstrap: String,
    path: Option<&Path>,
) -> anyhow::Result<Config> {
    let key = folder.join("master.key");
    if !key.exists() {
        let mut file = std::os::unix::fs::OpenOptionsExt::mode(
            std::fs::OpenOptions::new().write(true).create_new(true),
            0o600,
        )
        .open(&key)?;
        file.write_all(MasterKey::generate().as_bytes())?;
    }
    let key = std::fs::read_to_string(&key)
        .with_context(|| format!("cannot read the demo's key {}", key.display()))?;
    let mut config = Config::load(path, std::env::vars())?;
    config.set("kafka.bootstrap", bootstrap);
    config.set("kafka.delivery", "at-least-once");
    config.set(
        "database.url",
        format!("sqlite:{}", folder.join("coach.sqlite").display()),
    );
    config.set("seal.master_key", key.trim());
    config.set("gateway.listen", free_address(args.port)?.to_string());
    config.set("gateway.token_secret", MasterKey::generate().to_string());
    config.check(&crate::config::sections())?;
    Ok(config)
}

/// Where the panel can be served: on the chosen port, else on 8080, else on any.
fn free_address(port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let bind = |port| TcpListener::bind(local(port)).and_then(|listener| listener.local_addr());
    match port {
        Some(port) => bind(port).with_context(|| format!("port {port} cannot be served")),
        None => Ok(bind(8080).or_else(|_| bind(0))?),
    }
}

/// Everything that runs in this process.
struct Demo {
    process: Process,
    stages: JoinSet<anyhow::Result<()>>,
    address: SocketAddr,
    signal: CancellationToken,
}

impl Demo {
    async fn open(config: Config, signal: CancellationToken) -> anyhow::Result<Self> {
        let deps = start::deps(&config).await?;
        let address = config.section::<gateway::Settings>("gateway")?.listen;
        let process = Process {
            kafka: start::kafka(&config)?,
            runner: start::runner(&config)?,
            config,
            deps,
            // Stages stop after the call's last events have come through, not with the signal.
            shutdown: CancellationToken::new(),
        };
        let mut stages = JoinSet::new();
        for entry in registry::STAGES {
            stages.spawn((entry.run)(process.clone()));
        }
        Ok(Self {
            process,
            stages,
            address,
            signal,
        })
    }

    /// Waits until every stage has its models loaded and reads.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let unready = self.process.deps.health.unready();
            if unready.is_empty() {
                return Ok(());
            }
            tokio::select! {
                ended = self.stages.join_next() => {
                    ended.context("no stage runs")???;
                    anyhow::bail!("a stage ended before the call began");
                }
                () = self.signal.cancelled() => anyhow::bail!("stopped"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            anyhow::ensure!(
                began.elapsed() < PATIENCE,
                "not ready after {PATIENCE:?}: {}",
                unready.join(", ")
            );
        }
    }

    async fn play(&mut self, args: &Args, recording: &wav::Recording) -> anyhow::Result<()> {
        let process = &self.process;
        let deps = &process.deps;
        let topics = [Utterance::TOPIC, Insight::TOPIC, Tip::TOPIC];
        let decoder = Decoder::from(deps);
        let mut reader = Reader::open(
            &process.kafka,
            decoder,
            &topics,
            From::Beginning,
            Replayed::Read,
        )
        .await?;
        let secret = process
            .config
            .section::<gateway::Settings>("gateway")?
            .token_secret;
        let token =
            gateway::mint_token(secret.reveal(), &args.about.tenant, &args.about.rep, TOKEN)?;
        screen::invite(&format!("http://{}/#token={token}", self.address));

        let call = args.about.call("wav", recording.speakers());
        let call_id = call.id.clone();
        let producer = Producer::new(&process.kafka, deps.codec.clone())?;
        let pace = Pace::start(args.speed);
        let story = wav::begin(call, pipeline::clock::now(), &producer, &deps.sealer).await?;
        let mut screen = Screen::new(&call_id, pace, deps.sealer.clone());

        let playing = wav::play(recording, story, pace, &self.signal);
        tokio::pin!(playing);
        let mut last_events = None;
        while !screen.over() {
            tokio::select! {
                played = &mut playing, if last_events.is_none() => {
                    played?;
                    last_events = Some(tokio::time::Instant::now() + PATIENCE);
                }
                event = reader.next() => screen.show(&event?).await?,
                ended = self.stages.join_next() => {
                    ended.context("no stage runs")???;
                    anyhow::bail!("a stage ended in the middle of the call");
                }
                () = deadline(last_events) => {
                    anyhow::bail!("the call's last events have not come after {PATIENCE:?}");
                }
            }
        }
        summary::print(&screen, deps, &call_id).await
    }

    /// Goes on serving the panel.
    async fn serve(&mut self) -> anyhow::Result<()> {
        if self.signal.is_cancelled() {
            return Ok(());
        }
        println!("\nThe panel stays open. Ctrl-C ends the demo.");
        tokio::select! {
            () = self.signal.cancelled() => Ok(()),
            ended = self.stages.join_next() => ended.context("no stage runs")??,
        }
    }

    /// The error of a stage that broke says more than that of whoever waited for it.
    async fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.process.shutdown.cancel();
        while let Some(ended) = self.stages.join_next().await {
            if let Ok(Err(cause)) = ended {
                return cause;
            }
        }
        error
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.process.shutdown.cancel();
        while let Some(ended) = self.stages.join_next().await {
            ended??;
        }
        self.process.deps.database.close().await;
        Ok(())
    }
}

async fn deadline(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
