"""Servers on this machine: what deploy/kafka and deploy/postgresql share.

A server is one process with a folder of its own. Its pid file holds the process id and its start time,
so that a process id used again by somebody else is never signalled.
"""

import contextlib
import fcntl
import fnmatch
import hashlib
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree


class Failure(Exception):
    """What a person should read: the cause, and the way out where there is one."""


def say(text):
    """Progress goes to standard error; standard output carries only answers."""
    print(text, file=sys.stderr, flush=True)


# === the cache ===


def cache():
    """The folder for everything fetched, as docs name it."""
    if chosen := os.environ.get("SALES_COACH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sales-coach"


def pom_version(room):
    """The version a pom.xml gives itself."""
    return ElementTree.parse(room / "pom.xml").getroot().findtext("{*}version")


@contextlib.contextmanager
def filling(target):
    """Gives an empty folder to fill, which becomes `target` in one step; None when `target` is there already.

    Others that want the same target wait meanwhile.
    """
    if target.is_dir():
        yield None
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            yield None
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".filling-") as folder:
            filled = Path(folder) / "filled"
            filled.mkdir(mode=0o755)
            yield filled
            filled.rename(target)


def fetch_jars(room, folder, pattern="*.jar", profile=None):
    """Copies the jars that `room`'s pom.xml names into `folder` and checks each against jars.sha256."""
    if not shutil.which("mvn"):
        raise Failure("maven is missing: apt-get install maven")
    command = ["mvn", "-B", "-q", "-f", room / "pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command + (["-P", profile] if profile else []), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"maven could not fetch the jars:\n{tail(done.stdout + done.stderr)}")
    lines = (room / "jars.sha256").read_text().splitlines()
    wanted = {name: digest for digest, name in map(str.split, lines) if fnmatch.fnmatch(name, pattern)}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
        raise Failure(f"these are not the jars that jars.sha256 pins: {', '.join(wrong)}")


# === processes ===


def tail(text, lines=20):
    """The last lines of a log, for an error text."""
    return "\n".join(text.splitlines()[-lines:])


def start_time(pid):
    """When a process started, in clock ticks since boot; None when there is no such process, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    # A zombie's other threads may still be ending, and hold its ports until then.
    return None if fields[0] == "Z" and threads == 1 else int(fields[19])


def free_ports(count):
    """Ports nobody listens on, below the range that outgoing connections are given theirs from."""
    ports = []
    while len(ports) < count:
        port = random.randrange(15000, 32000)
        if port not in ports and not taken(port):
            ports.append(port)
    return ports


def taken(port):
    """True when somebody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def setpriv(options, command):
    """The command line, run with setpriv's `options`; exec'd, so that its process id stays."""
    return ["setpriv", *options, "--", *command] if options else command


class Server:
    """One server process in a folder of its own. Subclasses say how to prepare and start it and when it is ready."""

    STOP = signal.SIGTERM
    KILL = signal.SIGKILL
    GRACE_S = 20

    def __init__(self, name, folder, ports):
        self.name = name
        self.folder = folder
        self.ports = ports
        self.identity = []  # setpriv's options for the user that it runs as
        self.process = None

    def prepare(self):
        """Makes the folder ready for a first start; does nothing on a later one."""
        raise NotImplementedError

    def command(self):
        """The command line; exec'd as it is, so that its process id is the server's."""
        raise NotImplementedError

    def ready(self):
        """True once the server serves."""
        raise NotImplementedError

    @property
    def log(self):
        return self.folder / "log"

    @property
    def pid_file(self):
        return self.folder / "pid"

    def pid(self):
        """The process id, or None when the server does not run."""
        if self.process:
            self.process.poll()
        try:
            pid, started = map(int, self.pid_file.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if start_time(pid) == started else None

    def start(self, attached):
        """Starts the server unless it runs. An attached one is ended by the kernel when this process dies."""
        if self.pid():
            return
        if busy := [str(port) for port in self.ports if taken(port)]:
            raise Failure(f"{self.name}: port {', '.join(busy)} is taken by somebody else; choose another with --port")
        # In one call, because a change of user makes the kernel forget the signal asked for before it.
        watch = [f"--pdeathsig={self.KILL.name[3:]}"] if attached else []
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                setpriv(self.identity + watch, self.command()), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid_file.write_text(f"{self.process.pid} {start_time(self.process.pid) or 0}\n")

    def wait_ready(self, deadline):
        """Returns once the server is ready; fails when it ends or the deadline passes."""
        while not self.ready():
            if self.pid() is None:
                raise Failure(f"{self.name} ended while starting; the end of its log:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} was not ready in time; the end of its log:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self):
        return tail(self.log.read_text(errors="replace")) if self.log.exists() else "(no log)"

    def send(self, number):
        if pid := self.pid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, number, grace_s):
        """Sends a signal and waits until the process is gone; after `grace_s` seconds SIGKILL."""
        self.send(number)
        self.send(signal.SIGCONT)
        deadline = time.monotonic() + grace_s
        while self.pid() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.send(signal.SIGKILL)
        while self.pid():
            time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)

    def stop(self):
        """Ends the server in good order."""
        self.end(self.STOP, self.GRACE_S)

    def kill(self):
        """Ends the server as a crash would."""
        self.end(self.KILL, 5)


# === several servers as one ===


def up(servers, timeout_s, attached=False):
    """Starts those servers that do not run and waits until all are ready. Gives the seconds it took.

    When one fails, those started here are stopped again.
    """
    began = time.monotonic()
    idle = [server for server in servers if not server.pid()]
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.prepare(), idle))
        for server in idle:
            server.start(attached)
        for server in servers:
            server.wait_ready(began + timeout_s)
    except BaseException:
        down(idle)
        raise
    return time.monotonic() - began


def down(servers):
    """Stops all servers at the same time, in good order."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda server: server.stop(), servers))


def status(servers):
    """Prints a line a server; gives the exit status: 0 when all run."""
    pids = [server.pid() for server in servers]
    for server, pid in zip(servers, pids):
        print(f"{server.name}: " + (f"running, process {pid}" if pid else "not running"))
    return 0 if all(pids) else 1


def attend(folder, servers, address, timeout_s):
    """Runs temporary servers until standard input closes, then kills them and deletes `folder`.

    Whoever started this holds the other end of standard input, so that even its SIGKILL ends everything.
    Prints `ready ADDRESS`; then obeys lines `start|stop|kill|pause|resume NUMBER` and answers each with
    `done` or `failed REASON`.
    """
    lines = queue.SimpleQueue()

    def read():
        for line in sys.stdin:
            lines.put(line.split())
        os.kill(os.getpid(), signal.SIGTERM)

    def leave(*_):
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    threading.Thread(target=read, daemon=True).start()
    try:
        up(servers, timeout_s, attached=True)
        print(f"ready {address}", flush=True)
        while True:
            print(obey(servers, lines.get(), timeout_s), flush=True)
    finally:
        # A second signal must not stop the clearing away.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for server in servers:
            server.send(server.KILL)
        for server in servers:
            server.kill()
        shutil.rmtree(folder)


def obey(servers, words, timeout_s):
    """Carries out one line of `attend` and gives its answer."""
    actions = {
        "start": lambda server: up([server], timeout_s, attached=True),
        "stop": Server.stop,
        "kill": Server.kill,
        "pause": lambda server: server.send(signal.SIGSTOP),
        "resume": lambda server: server.send(signal.SIGCONT),
    }
    try:
        verb, number = words
        actions[verb](servers[int(number) - 1])
    except (Failure, KeyError, IndexError, ValueError) as error:
        return f"failed {' '.join(words)}: {error}".replace("\n", " | ")
    return "done"


def fresh_folder(folder):
    """Makes the folder of temporary servers, which must not hold anything: it is deleted at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Failure(f"--attached deletes its folder at the end, and {folder} is not empty")


def run(main):
    """Runs a script's main and turns a failure into one clear text and exit status 1."""
    try:
        sys.exit(main())
    except Failure as failure:
        say(f"{Path(sys.argv[0]).name}: {failure}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
