"""One progress bar over all the steps of a set-up; plain lines where the output is not a terminal."""

import shutil
import sys
import threading
import time

MB = 1_000_000
WIDTH = 24


class Progress:
    """Steps weigh as many bytes as they fetch, or as one could fetch in the time they take."""

    def __init__(self, total, out=None):
        self.total, self.done = max(total, 1), 0
        self.out = out or sys.stderr
        self.drawn = self.out.isatty()
        self.lock = threading.Lock()

    def step(self, title, weight, measure=None):
        """A context in which `measure`, a function to bytes so far, is asked now and then."""
        return Step(self, title, weight, measure)

    def show(self, title, part, note=""):
        if not self.drawn:
            return
        share = min(1.0, (self.done + part) / self.total)
        full = int(share * WIDTH)
        line = f"[{'#' * full}{'.' * (WIDTH - full)}] {share:4.0%}  {title}{note}"
        columns = shutil.get_terminal_size().columns
        with self.lock:
            self.out.write("\r\x1b[K" + line[: columns - 1])
            self.out.flush()

    def say(self, text):
        if self.drawn:
            self.out.write("\r\x1b[K")
        self.out.write(text + "\n")
        self.out.flush()


class Step:
    def __init__(self, progress, title, weight, measure):
        self.progress, self.title, self.weight, self.measure = progress, title, weight, measure
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        if self.progress.drawn:
            self.watcher.start()
        else:
            size = f" ({self.weight / MB:.0f} MB)" if self.measure else ""
            self.progress.say(f"{self.title}{size}")
        return self

    def __exit__(self, *failure):
        self.over.set()
        if self.watcher.is_alive():
            self.watcher.join()
        self.progress.done += self.weight
        self.progress.show(self.title, 0)

    def watch(self):
        most, begun = 0, time.monotonic()
        while not self.over.wait(0.1):
            if self.measure:
                most = max(most, min(self.measure(), self.weight))
                self.progress.show(self.title, most, f"  {most / MB:.0f} of {self.weight / MB:.0f} MB")
            else:
                self.progress.show(self.title, 0, f"  {time.monotonic() - begun:.0f} s")
