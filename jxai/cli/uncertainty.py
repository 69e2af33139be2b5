"""`jxai uncertainty`: a data set, a model, scores and other data sets in; a run, and what the scores know of errors and of the other data out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jxai import data, evaluate
from jxai.cli import columns, inputs
from jxai.cli.errors import UserError, told
from jxai.cli.evaluate import EMBEDDED
from jxai.cli.progress import Reporter, said
from jxai.data.named import plain, refuse_unknown
from jxai.evaluate.uncertain import report, texts
from jxai.evaluate.uncertain.names import left_out
from jxai.evaluate.uncertain.remarks import remarks
from jxai.files import printable
from jxai.scores import positive

NOISE, NONE = "noise", "none"


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, asks what is left to ask with progress, writes the tables and prints them in short."""
    scores, whole = columns.scores(args.scores, given)
    with told():
        for one in (args.dataset, *(args.against or ()), args.fit_on):  # before a network is read, or trained
            if one not in (None, NOISE, NONE):
                refuse_unknown(one, args.data_dir)
        name = plain(args.dataset)
        subject = inputs.subject(args.model or EMBEDDED.get(name, "efficientnet_lite0"))
        source = inputs.source(_of(args, split=_split(args)), args.dataset, subject)
        pixels = _pixels(source, subject)
        against = _against(args, subject, source, pixels)
        settings: dict[str, Any] = dict(
            against=against, scores=scores, strict=not whole, fit_on=_fit_on(args, subject, name, pixels.shape), fit_limit=args.fit_limit
        )
        settings |= dict(label=_label(args.dataset), limit=args.limit, sample=args.sample, seed=args.seed, block=args.block, batch_size=args.batch_size)
        settings |= dict(keep_pictures=not args.no_pictures, anew=bool(args.anew), shared=bool(args.shared), preprocess=subject.preprocess)
        run = _asked(args, subject, source, settings)
        out = Path(args.out) / "report"
        with said("drawing examples again, for intervals"):
            rows = report.report([run], out, pictures=args.html, images=64)
        table = run.table()
    for message in [m for m in table["error"] if m][:5]:
        print(f"failed: {message}", file=sys.stderr)
    print(texts.as_markdown(run, printable(run.path.resolve().name), rows, remarks(run, table), texts.SHORT))
    written = ", ".join(sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith(".")))
    print(f"wrote {written} into {out}" + ("" if args.html else f"; `jxai report {args.out}` adds curves, images and a page"))


def _asked(args: argparse.Namespace, subject: inputs.Subject, source: data.Source, settings: dict[str, Any]) -> evaluate.Run:
    try:
        with Reporter() as reporter:
            run = evaluate.uncertainty(subject.model, source, args.out, model_name=subject.name, on_progress=reporter, **settings)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {args.out}", file=sys.stderr)
        raise
    for name, why in left_out(run).items():
        print(f"{name} is left out: {why}", file=sys.stderr)
    return run


def _against(args: argparse.Namespace, subject: inputs.Subject, source: data.Source, pixels: np.ndarray) -> dict[str, data.Source]:
    """The other data sets by label."""
    if args.against is None:
        return {NOISE: data.Noise(pixels.shape, _size(args, source), args.seed)} if _is_picture(pixels) else {}
    found: dict[str, data.Source] = {}
    for name in args.against:
        if name == NOISE and not _is_picture(pixels):
            raise UserError(f"--against {NOISE} is of pictures, and {source.name} has {pixels.dtype} {pixels.shape}")
        made: data.Source = data.Noise(pixels.shape, _size(args, source), args.seed) if name == NOISE else _other(args, name, subject)
        if args.resize and name != NOISE:
            made = data.resized(made, pixels.shape)
        label = _label(name)
        if label in found or label == _label(args.dataset):
            raise UserError(f"--against names {label!r} twice, or DATASET itself")
        found[label] = made
    return found


def _other(args: argparse.Namespace, name: str, subject: inputs.Subject) -> data.Source:
    """Another data set, with the model's classes where they are its own; DATASET corrupted is of the same split."""
    same = plain(name) == plain(args.dataset)
    own = _of(args, split=_split(args) if same else None, label=args.label if same else None)
    try:
        return inputs.source(own, name, subject)
    except ValueError:
        if not Path(plain(name)).is_dir():
            raise
        return data.source(name, channels=subject.channels, medical=inputs.medical(own))


def _fit_on(args: argparse.Namespace, subject: inputs.Subject, name: str, shape: tuple[int, ...]) -> data.Source | None:
    """The examples on which scores are fitted; None where there are none, and none were named."""
    if args.fit_on == NONE:
        return None
    wanted = args.fit_on or name
    folder = Path(plain(wanted)).is_dir()
    if folder and not args.fit_on:
        return None
    own = _of(args, split=args.fit_split or (None if folder else "train"), label=args.label if wanted == name else None)
    try:
        made = inputs.source(own, wanted, subject)
        return data.resized(made, shape) if args.resize and args.fit_on else made
    except ValueError:
        if args.fit_on or args.fit_split:
            raise
        return None


def _split(args: argparse.Namespace) -> str | None:
    """Of DATASET: of the digits those that their network was not trained on."""
    return args.split or ("test" if plain(args.dataset) == "digits" else None)


def _of(args: argparse.Namespace, **changed: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **changed})


def _size(args: argparse.Namespace, source: data.Source) -> int:
    if args.limit is not None:
        positive(limit=args.limit)
    return len(source) if args.limit is None else min(args.limit, len(source))


def _pixels(source: data.Source, subject: inputs.Subject) -> np.ndarray:
    """Of the first example that can be read."""
    from jxai.evaluate.examples import first_readable

    return source[int(first_readable(source, subject.preprocess).index[0])].pixels


def _is_picture(pixels: np.ndarray) -> bool:
    return pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] in (1, 3)


def _label(name: str) -> str:
    """A data set as it was typed; of a folder its last part."""
    base = plain(name)
    return printable(Path(base).resolve().name + name[len(base) :] if Path(base).is_dir() else name)
