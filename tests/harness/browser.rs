use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use thirtyfour::{ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};
use tokio::net::TcpStream;

use crate::{Process, eventually, free_port};

const DRIVER_WITHIN: Duration = Duration::from_secs(20);

/// Names under which a Chromium is known; Ubuntu's `chromium-browser` only points at a snap.
const BROWSERS: [&str; 2] = ["chromium", "google-chrome"];

/// No window, no sandbox (which root cannot have), and no connection that the page did not ask for.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Over a pipe the browser notices the end of its driver, and ends too.
    "--remote-debugging-pipe",
];

/// A headless Chromium with an empty profile, steered by WebDriver; use it as a [`WebDriver`].
///
/// Close it with [`Browser::quit`]; a failing test that cannot is tidied up after as well. Only SIGKILL of the test
/// process leaves the profile's folder behind.
pub struct Browser {
    driver: WebDriver,
    chromedriver: Process,
    profile: TempDir,
}

impl Browser {
    /// The folder of the browser's profile, which each of its processes names on its command line or is a child of.
    pub fn profile(&self) -> &Path {
        self.profile.path()
    }

    /// Closes the browser.
    pub async fn quit(self) {
        let Self {
            driver,
            chromedriver,
            profile,
        } = self;
        if let Err(error) = driver.quit().await {
            panic!("closing chromium: {error}");
        }
        drop((chromedriver, profile));
    }
}

impl Deref for Browser {
    type Target = WebDriver;

    fn deref(&self) -> &WebDriver {
        &self.driver
    }
}

/// Starts a browser. None, with a printed word, on Ubuntu without one, whose package is an empty stub: skip the test.
///
/// # Panics
/// When chromium or chromedriver is missing elsewhere, or does not start.
pub async fn chromium() -> Option<Browser> {
    let browser = BROWSERS.iter().find_map(|name| program(name));
    let (Some(browser), Some(chromedriver)) = (browser, program("chromedriver")) else {
        assert!(
            ubuntu(),
            "no browser: apt-get install chromium chromium-driver"
        );
        eprintln!("skipped: no chromium or google-chrome with its chromedriver on this Ubuntu");
        return None;
    };
    let port = free_port();
    let process = Process::spawn(
        &chromedriver.to_string_lossy(),
        &[&format!("--port={port}")],
        &[],
    );
    eventually(DRIVER_WITHIN, "chromedriver listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let started = open(&browser, port).await;
    let (driver, profile) =
        started.unwrap_or_else(|error| panic!("chromium did not start: {error}"));
    Some(Browser {
        driver,
        chromedriver: process,
        profile,
    })
}

async fn open(
    browser: &Path,
    port: u16,
) -> Result<(WebDriver, TempDir), Box<dyn std::error::Error>> {
    let profile = tempfile::tempdir()?;
    let mut wanted = DesiredCapabilities::chrome();
    wanted.set_binary(&browser.to_string_lossy())?;
    for argument in ARGUMENTS {
        wanted.add_arg(argument)?;
    }
    wanted.add_arg(&format!("--user-data-dir={}", profile.path().display()))?;
    let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await?;
    Ok((driver, profile))
}

/// Where a program lies on the path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn ubuntu() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=ubuntu")
}
