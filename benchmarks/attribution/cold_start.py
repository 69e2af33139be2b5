"""From nothing to the first map: `jxai explain --methods grad_cam` beside pytorch-grad-cam on the same weights, each in a fresh process.

    python benchmarks/attribution/cold_start.py                             # about 2 minutes on 2 quiet cores
    python benchmarks/attribution/cold_start.py --peer /elsewhere/bin/python --repeats 3
    python benchmarks/attribution/cold_start.py --jxai /older/bin/python --no-stages            # the command of another installation

Needs the extra `bench`, here or where `--peer` says. Every process is new; ours starts with an empty folder for compiled programs, and then
again with what the first has left there. Of several repeats the one that took least of the processor is told.
Both make the same map of the same photograph; ours writes the picture and the arrays, too, and says the classes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import unittest.mock
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """What passes between calls: `[(name, seconds, processor seconds)]`."""

    def __init__(self):
        self.told, self.last = [], self._now()

    def __call__(self, name: str) -> None:
        now = self._now()
        self.told.append((name, *(b - a for a, b in zip(self.last, now))))
        self.last = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def ours(out: Path) -> list[tuple[str, float, float]]:
    """What the command does, one after another."""
    from jxai.cli import cache, compiler

    done = Clock()
    compiler.hasten()
    importlib.import_module("jax")
    done("import jax")
    importlib.import_module("flax.nnx")
    done("import flax")
    import numpy as np

    from jxai.cli import calls, inputs, programs
    from jxai.files import save_arrays

    cache.keep()
    done("import jxai")
    photograph = inputs.photograph()
    pixels = inputs.read(photograph)
    done("read the photograph")
    subject = inputs.subject("efficientnet_lite0")
    done("read the weights")
    x = inputs.example(photograph, pixels, subject)
    done("preprocess")
    inputs.prediction(subject, x)
    done("trace the prediction, to check the model")
    traced, _, arguments = calls.Calls(subject, {}, 0, 1).method("grad_cam", x, None)
    done("trace the prediction and the map")
    lowered = traced.lower()
    done("lower")
    with unittest.mock.patch.object(type(traced), "lower", lambda _: lowered):
        program = programs.compiled(traced, 1)
    done("compile")
    logits, maps = (np.asarray(value) for value in program(*arguments))
    done("run")
    from jxai import plot

    done("import matplotlib")
    figure = plot.explanations(x, {"grad_cam": maps}, ["the class"])
    done("draw")
    plot.save(figure, out / "explanation.png")
    save_arrays(out / "explanation.npz", grad_cam=maps, x=x, logits=logits)
    done("write")
    return done.told


def peer(_: Path) -> list[tuple[str, float, float]]:
    """The same map by pytorch-grad-cam, without a picture."""
    done = Clock()
    import torch

    done("import torch")
    # Imported for what no CAM uses; one that was built for another torch would fail, and a mock will do.
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    sys.modules.update({name: unittest.mock.MagicMock(__spec__=None) for name in names})
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    done("import pytorch_grad_cam")
    from benchmarks.attribution import lite0

    model = lite0.pytorch().requires_grad_(True)
    done("read the weights")
    from PIL import Image
    from skimage import data

    image = Image.open(Path(data.__file__).with_name("coffee.png")).convert("RGB")
    image = image.resize((round(256 * image.width / image.height), 256), Image.Resampling.BICUBIC)
    left = (image.width - 224) // 2
    import numpy as np

    pixels = np.asarray(image.crop((left, 16, left + 224, 240)), np.float32) / 255
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    done("read and preprocess the photograph")
    with torch.no_grad():
        target = int(model(x).argmax())
    done("predict")
    with GradCAM(model, [model.top]) as explain:
        explain(x, [ClassifierOutputTarget(target)])
    done("first map")
    return done.told


def child(command: list[str], folder: Path) -> tuple[str, float, float]:
    """A process from its start to its end: what it printed, seconds, processor seconds."""
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "JXAI_CACHE")}
    environment |= {"XDG_CACHE_HOME": str(folder), "PYTHONPATH": str(ROOT) if "--stages-of" in command else ""}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout, took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(name: str, seconds: float, processor: float) -> None:
    print(f"| {name:<40} | {seconds:7.2f} | {processor:9.2f} |", flush=True)


def head(title: str) -> None:
    print(f"\n| {title:<40} | seconds | processor |\n|{'-' * 42}|--------:|----------:|", flush=True)


def best(command: list[str], repeats: int, warm: bool) -> tuple[str, float, float]:
    """The run that took least of the processor, with an empty cache or with what a run before has left."""
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            if warm:
                child(command, Path(folder))
            runs.append(child(command, Path(folder)))
    return min(runs, key=lambda run: run[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jxai", default=sys.executable, help="the Python whose `jxai explain` is run")
    parser.add_argument("--peer", default=sys.executable, help="the Python that has torch and grad-cam; empty for none")
    parser.add_argument("--no-stages", action="store_true", help="the whole command only")
    parser.add_argument("--stages-of", choices=("ours", "peer"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stages_of:
        print(json.dumps({"ours": ours, "peer": peer}[args.stages_of](Path.cwd())))
        return
    head("whole processes")
    for what in ("pass", "import jax", "import jxai"):
        row(f"python -c {what!r}", *best([args.jxai, "-c", what], args.repeats, False)[1:])
    command = [args.jxai, "-m", "jxai", "explain", "--methods", "grad_cam"]
    for name, warm in (("empty", False), ("filled", True)):
        row(f"jxai explain --methods grad_cam, {name}", *best(command, args.repeats, warm)[1:])
    peers = [("pytorch-grad-cam", args.peer, "peer", False)] if args.peer else []
    mine = [] if args.no_stages else [("jxai, empty cache", args.jxai, "ours", False), ("jxai, filled cache", args.jxai, "ours", True)]
    for title, python, which, warm in (*mine, *peers):
        told, seconds, processor = best([python, str(Path(__file__).resolve()), "--stages-of", which], args.repeats, warm)
        stages = json.loads(told.splitlines()[-1])
        head(title)
        row("start and end of the interpreter", seconds - sum(s for _, s, _ in stages), processor - sum(p for *_, p in stages))
        for stage in stages:
            row(*stage)
        row("all", seconds, processor)


if __name__ == "__main__":
    main()
