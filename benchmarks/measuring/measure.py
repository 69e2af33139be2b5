"""Measuring in processes of their own: one worker for each library, so that thread pools and allocators do not meet.

A worker imports one backend (`ours`, `captum_peers`, `xplique_peers` …), then answers one JSON line for each JSON line that it is sent. An idle
worker sleeps on its pipe, so that whoever is asked has both cores. A backend is a class with

    floor(batch, backward) -> call, passes       forward (and backward) passes over batches of the first image
    method(name, images, batch, options) -> call(seed) -> array [images, H, W, C or 1]
    facts() -> versions, speed, targets and logits
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = {
    "jxai": "benchmarks.attribution.ours:Jxai",
    "captum": "benchmarks.attribution.captum_peers:Captum",
    "shap": "benchmarks.attribution.captum_peers:Shap",
    "grad-cam": "benchmarks.attribution.captum_peers:GradCam",
    "zennit": "benchmarks.attribution.zennit_peers:Zennit",
    "xplique": "benchmarks.attribution.xplique_peers:OnKeras",
    "xplique-torch": "benchmarks.attribution.xplique_peers:OnTorch",
}
METRIC_BACKENDS = {
    "jxai": "benchmarks.metrics.metric_ours:Jxai",
    "quantus": "benchmarks.metrics.quantus_peers:Quantus",
    "captum": "benchmarks.metrics.metric_captum:Captum",
    "xplique": "benchmarks.metrics.metric_xplique:Xplique",
}


class Worker:
    """The parent's end of a worker process. Use `ask`; a failure over there raises `RuntimeError` here."""

    def __init__(self, library: str, backend: str, environment: dict[str, str] | None = None):
        self.library = library
        command = [sys.executable, str(Path(__file__)), backend]
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # a script's own folder is all that it finds by itself
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "PYTHONPATH": paths, **(environment or {})}
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment)
        self.facts = self._answer()

    def ask(self, **request):
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"{self.library}: the worker died before") from None
        return self._answer()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the worker died: " + self._last_words()}
        if "error" in answer:
            raise RuntimeError(f"{self.library}: {answer['error']}")
        return answer["value"]

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-600:].strip()


class Desk:
    """The child's end: what can be asked of a worker."""

    def __init__(self, backend):
        self.backend = backend
        self.calls = {}

    def floor(self, batch: int, backward: bool, seconds: float) -> list[float]:
        """Seconds of one pass: on the wall clock the fastest, of the processor's (which ticks) the mean of the calls that fit into `seconds`."""
        key = (batch, backward)
        if key not in self.calls:
            self.calls[key] = self.backend.floor(batch, backward)
            self.calls[key][0]()
        call, passes = self.calls[key]
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            times.append(_seconds(call))
        wall, used = zip(*times)
        return [min(wall) / passes, sum(used) / len(used) / passes]

    def first(self, id: str, name: str, images: int, batch: int, options: dict, out: str | None = None) -> float:
        """Seconds of the first call, tracing and compiling included; writes the maps to `out`."""
        start = time.perf_counter()
        self.calls[id] = self.backend.method(name, images, batch, options)
        maps = self.calls[id](0)
        seconds = time.perf_counter() - start
        if out:
            np.save(out, np.asarray(maps, np.float32))
        return seconds

    def save(self, id: str, seed: int, out: str) -> None:
        np.save(out, np.asarray(self.calls[id](seed), np.float32))

    def again(self, id: str, seed: int) -> tuple[float, float]:
        """Wall and processor seconds of one more call, the latter shared out over the cores."""
        return _seconds(self.calls[id], seed)

    def forget(self, id: str) -> None:
        self.calls.pop(id, None)
        if hasattr(self.backend, "forget"):
            self.backend.forget()

    def memory(self, name: str, batch: int, options: list[dict], images: int = 1) -> dict:
        """MiB that the process grew at its peak over what the loaded and warmed-up model takes, for each of `options` in turn; and of ours
        the scratch that the compiled program declares."""
        calls = [self.backend.method(name, images, batch, each) for each in options]
        scratch = [call.compile() / 2**20 for call in calls if hasattr(call, "compile")]
        self.backend.floor(1, False)[0]()
        Path("/proc/self/clear_refs").write_text("5")
        base, peaks = _status("VmRSS"), []
        for call in calls:
            call(0)
            peaks.append((_status("VmHWM") - base) / 1024)
        return {"peaks": peaks, "scratch": scratch}


def photographs(count: int) -> np.ndarray:
    """`[count, 224, 224, 3]` in [0, 1]: photographs that scikit-image ships, the later ones mirrored and moved."""
    from PIL import Image
    from skimage import data

    images = []
    for i in range(count):
        picture = Image.fromarray((data.chelsea, data.coffee, data.astronaut)[i % 3]())
        scale = 256 / min(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
        left, top = (picture.width - 224) // 2 + 5 * (i // 3), (picture.height - 224) // 2
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32) / 255
        images.append(pixels[:, ::-1] if i // 3 % 2 else pixels)
    return np.stack(images)


def _seconds(call, *args) -> tuple[float, float]:
    wall, used = time.perf_counter(), _used()
    call(*args)
    return time.perf_counter() - wall, (_used() - used) / len(os.sched_getaffinity(0))


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def _serve(backend: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the error stream, not between the answers
    module, name = backend.split(":")
    desk = None

    def answer(make) -> None:
        try:
            value = {"value": make()}
        except Exception as error:
            value = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    def start():
        nonlocal desk
        desk = Desk(getattr(importlib.import_module(module), name)())
        return desk.backend.facts()

    answer(start)
    for line in sys.stdin:
        question = json.loads(line)
        answer(functools.partial(getattr(desk, question.pop("ask")), **question))


if __name__ == "__main__":
    _serve(sys.argv[1])
