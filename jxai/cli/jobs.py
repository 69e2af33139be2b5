"""One image of an explanation: read, predicted, its methods traced; or found explained already."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jxai
from jxai.cli import cost, inputs, pictures, programs
from jxai.cli.calls import Calls, Made, Prepared
from jxai.cli.errors import UserError
from jxai.cli.progress import said
from jxai.data.medical import Medical
from jxai.files import DAMAGE, printable
from jxai.identity.values import digest


class Job(NamedTuple):
    """One image: where its results go, the example, the model's logits and the classes that are explained."""

    image: Path
    folder: Path
    x: np.ndarray
    logits: np.ndarray
    targets: list[int]


class Begun(NamedTuple):
    """A job, and what is to be run of it."""

    job: Job
    methods: dict[str, Prepared | Made] | None
    """By name, traced, or done with the prediction; None where all of it is in the folder already."""
    left_out: dict[str, str]
    """Why methods that may be left out cannot explain this model, by name."""


def begin(
    named: pictures.Named, calls: Calls, chosen: list[str], args: argparse.Namespace, how: Medical, alone: bool, console: Any, optional: Collection[str] = ()
) -> Begun:
    """Reads an image, checks it and all that is asked of it, and says what it will cost.

    Args:
      named: the image. calls: the programs. chosen: methods. args: of the command. how: medical files are read. alone: whether it is the only image, which is explained again though it be there.
      optional: those of the methods that are left out where they cannot explain this model, instead of an error.

    Raises:
      inputs.Unreadable: what is wrong with this image. UserError: what is wrong with the command or the model.
    """
    name = printable(named.path.name)
    with console.status(f"reading {name}, and tracing the methods"):
        x = inputs.example(named.path, inputs.read(named.path, how), calls.subject)
        prediction = calls.prediction(x)
        targets = inputs.targets(args.target, calls.subject, prediction.traced.out_info.shape[0])
        left_out = _impossible(calls, x, chosen, optional)
        chosen = [name for name in chosen if name not in left_out]
        kept = None if alone or args.anew else _kept(named, x, settings(calls, chosen, args.target, x.shape))
        if targets is None and len(chosen) == 1 and kept is None:
            at_once = calls.method(chosen[0], x, None)
            methods = {} if not programs.loops(at_once.traced) else {chosen[0]: calls.method(chosen[0], x, [0])}
        else:
            methods = {name: calls.method(name, x, targets or [0]) for name in chosen}
    if not methods:
        with said(f"{name}: {cost.line(calls, at_once)}") if calls.is_new(at_once) else contextlib.nullcontext():
            (logits, maps), *took = calls.call(at_once)
        return Begun(_job(named, x, logits, None, calls.subject), {chosen[0]: Made(maps, *took)}, left_out)
    with console.status(f"predicting {name}"):
        job = _job(named, x, calls.call(prediction).value, targets, calls.subject)
    if kept is not None and np.allclose(job.logits, kept, rtol=1e-4, atol=1e-4 * np.abs(kept).max()):
        return Begun(job, None, left_out)
    cost.say(calls, prediction, methods)
    return Begun(job, {name: method.of(job.targets) for name, method in methods.items()}, left_out)


def _impossible(calls: Calls, x: np.ndarray, chosen: list[str], optional: Collection[str]) -> dict[str, str]:
    """Of the methods that may be left out, those that raise, and what they say; `UserError` where no method is left."""
    found: dict[str, str] = {}
    for name in chosen:
        if name in optional:
            try:
                calls.method(name, x, [0])
            except UserError as error:
                found[name] = str(error).removeprefix(f"{name}: ")
    if len(found) == len(chosen):
        raise UserError(f"no method can explain {calls.subject.name}: " + "; ".join(f"{name}: {why}" for name, why in found.items()))
    return found


def settings(calls: Calls, chosen: list[str], target: str | None, shape: tuple[int, ...] | None) -> dict[str, Any]:
    """What the maps of an x of this shape depend on beside x itself, as JSON has it; without a shape, which weights the model has is left out."""
    asked = {"model": calls.subject.name, "seed": calls.seed, "target": target, "methods": chosen, "options": calls.values}
    asked |= {"weights": None if shape is None else calls.weights(shape), "versions": {"jxai": jxai.__version__, "jax": jax.__version__}}
    return json.loads(json.dumps(asked, default=_plain))


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {digest(value)[:16]}"
    return getattr(value, "__name__", None) or repr(value)


def _kept(named: pictures.Named, x: np.ndarray, asked: dict[str, Any]) -> np.ndarray | None:
    """The logits of what is in the image's folder, where that is of the same x and settings; None where it is not.

    Whether the code of the model is the same, too, shows in the logits that it gives.
    """
    try:
        with np.load(named.folder / "explanation.npz") as there:
            told = json.loads(str(there["settings"]))
            same = {name: told.get(name) for name in asked} == asked and np.array_equal(there["x"], x)
            return there["logits"] if same and (named.folder / "explanation.png").exists() else None
    except DAMAGE:
        return None


def _job(named: pictures.Named, x: np.ndarray, logits: Any, targets: list[int] | None, subject: inputs.Subject) -> Job:
    logits = np.asarray(logits, np.float32)
    if not np.isfinite(logits).all():
        raise inputs.Unreadable(f"{named.path}: {(~np.isfinite(logits)).sum()} of the {logits.size} logits of {subject.name} are not finite")
    inputs.check_logits(subject, x, logits)
    return Job(named.path, named.folder, x, logits, targets or [int(logits.argmax())])
