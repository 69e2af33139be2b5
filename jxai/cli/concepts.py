"""`jxai concepts`: a data set, a model and a layer in; a run, and a picture of what the most relevant channels of an image stand for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jxai import attribution, data
from jxai import concepts as library
from jxai.callables import compiled
from jxai.cli import inputs, options
from jxai.cli.errors import UserError, told
from jxai.cli.evaluate import EMBEDDED
from jxai.cli.progress import Reporter, said
from jxai.concepts.channels import sizes
from jxai.data.batches import number
from jxai.data.named import refuse_unknown
from jxai.evaluate import Run
from jxai.evaluate.examples import first_readable
from jxai.files import printable, save_arrays
from jxai.tracing import taps

METHOD = "lrp"
"""Whose options relevance has here, too."""
_CLASSES, _TOP = 3, 10
"""How many classes are told of a channel, by the mean of how many of their largest values."""


class Shown(NamedTuple):
    """The image whose channels are shown: its name, x, the class that is explained, and what was found."""

    name: str
    x: np.ndarray
    target: int
    portrait: library.Portrait


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, collects what every channel does for every example, and shows the image's channels with their references."""
    how = options.parse(given, {METHOD: getattr(attribution, METHOD)})[METHOD]
    if "score" in how:
        raise UserError(f"--{METHOD}.score: concepts are of the logit of a class")
    layer = int(args.layer) if args.layer is not None and args.layer.isdecimal() else args.layer
    with told():
        refuse_unknown(args.dataset, args.data_dir)
        subject = inputs.subject(args.model or EMBEDDED.get(args.dataset, "efficientnet_lite0"))
        source = inputs.source(args, args.dataset, subject)
        name, x, target = _image(args, source, subject)
        channels = _channels(args, subject, x, layer)
        _check_counts(args, source)
        run = _collected(args, subject, source, layer, how)
        found = library.strongest(run, args.references)
        same = dict(by=args.by, reduction=args.reduction, top=args.top, channels=channels, preprocess=subject.preprocess, batch_size=args.batch_size)
        with said(f"{printable(name)}: compiling, and making the maps of its channels and of their references"):
            seen = library.portrait(subject.model, x, target, layer, found, source, **same, **how)
    shown, out = Shown(name, x, target, seen), Path(args.out)
    classes, captions = _classes(run, subject, seen), _captions(run, subject, seen)
    about, title = run.config["concepts"], f"{printable(name)}, {_short(subject, target)}"
    _print(run, subject, shown, classes)
    _write(out, f"{title}: channels of {about['layer']}", shown, found, captions)
    if args.html:
        from jxai.cli import conceived

        facts = [("image", printable(name)), ("class", subject.label(target)), ("model", subject.name), ("layer", about["layer"]), ("by", args.by)]
        facts += [("examples", f"{run.config['data']['examples']} of {source.name}")]
        conceived.write(out / "concepts.html", title, facts, x, seen, classes, captions, (getattr(attribution, METHOD), how), args)


def _collected(args: argparse.Namespace, subject: inputs.Subject, source: data.Source, layer: int | str | None, how: dict[str, Any]) -> Run:
    settings = dict(by=args.by, reduction=args.reduction, target=args.of, limit=args.limit, sample=args.sample, seed=args.seed, block=args.block)
    settings |= dict(batch_size=args.batch_size, anew=bool(args.anew), shared=bool(args.shared), preprocess=subject.preprocess, model_name=subject.name)
    if args.by == "relevance":
        settings |= {**{k: v for k, v in how.items() if k == "composite"}, "options": {k: v for k, v in how.items() if k != "composite"}}
    try:
        with Reporter() as reporter:
            run = library.collect(subject.model, source, layer, args.out, on_progress=reporter, **settings)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {args.out}", file=sys.stderr)
        raise
    for message in [m for m in run.table()["error"] if m][:5]:
        print(f"failed: {message}", file=sys.stderr)
    return run


def _image(args: argparse.Namespace, source: data.Source, subject: inputs.Subject) -> tuple[str, np.ndarray, int]:
    """The image whose channels are shown, a file or a place in the data set, and the class that is explained."""
    if args.image is None or args.image.isdecimal():
        if args.image is not None and int(args.image) >= len(source):
            raise UserError(f"--image {args.image} must be a file, or a place in {source.name} below {len(source)}")
        batch = first_readable(source, subject.preprocess, None if args.image is None else [int(args.image)])
        place = int(batch.index[0])
        name, x = batch.names[0] or f"{source.name} {place}", batch.x[0]
    else:
        path = Path(args.image)
        name, x = path.name, inputs.example(path, inputs.read(path, inputs.medical(args)), subject)
    if x.ndim != 3:
        raise UserError(f"x of shape {x.shape} has no picture: concepts are shown of images")
    targets = inputs.targets(args.target, subject, inputs.num_classes(subject, x)) or [int(np.argmax(compiled(subject.model, x)))]
    if len(targets) > 1:
        raise UserError(f"--target {args.target} must name one class")
    return name, x, targets[0]


def _classes(run: Run, subject: inputs.Subject, seen: library.Portrait) -> list[str]:
    """Of each channel the classes whose examples have most of it."""
    best = library.class_ranking(library.class_means(run, top=_TOP).mean[seen.channels], _CLASSES).classes
    return ["; ".join(_short(subject, label) for label in row[row >= 0]) for row in best]


def _print(run: Run, subject: inputs.Subject, shown: Shown, classes: list[str]) -> None:
    about, seen = run.config["concepts"], shown.portrait
    said_of = f"{len(seen.channels)} of the {about['channels']} channels of {about['layer']}, by {about['by']}"
    print(f"{printable(shown.name)}, {subject.label(shown.target)}: {said_of}; and the classes that have most of each")
    for channel, share, named in zip(seen.channels, seen.share, classes):
        print(f"  channel {channel:<5} {share:7.2%}   {named}")


def _captions(run: Run, subject: inputs.Subject, seen: library.Portrait) -> list[list[str]]:
    """Of each reference of each channel its class."""
    table = run.table()
    of = dict(zip(table["index"].tolist(), table["target"].tolist()))
    return [[_short(subject, of[i]) for i in row[row >= 0].tolist()] for row in seen.index]


def _write(out: Path, title: str, shown: Shown, found: library.References, captions: list[list[str]]) -> None:
    from jxai import plot

    seen = shown.portrait
    names = [f"channel {channel}\n{share:.1%}" for channel, share in zip(seen.channels, seen.share)]
    plot.save(plot.concepts(shown.x, seen.maps, seen.crops, names, captions, title=title), out / "concepts.png", dpi=150)
    own = {"x": shown.x, "target": np.asarray(shown.target), "channels": seen.channels, "share": seen.share, "maps": seen.maps}
    save_arrays(out / "references.npz", **own, **found._asdict())
    print(f"wrote {out / 'concepts.png'} and {out / 'references.npz'} into the run {out}")


def _short(subject: inputs.Subject, label: int) -> str:
    return subject.label(int(label)).split(",")[0]


def _channels(args: argparse.Namespace, subject: inputs.Subject, x: np.ndarray, layer: int | str | None) -> list[int] | None:
    """The channels that were asked for; None where it is the most relevant ones."""
    count = sizes(taps.find(subject.model, x, layer))[1]
    if args.channels is None:
        return None
    for text in args.channels.split(","):
        if not text.isdecimal() or int(text) >= count:
            raise UserError(f"--channels {text!r} must be a channel's number, below {count}")
    return list(dict.fromkeys(int(text) for text in args.channels.split(",")))


def _check_counts(args: argparse.Namespace, source: data.Source) -> None:
    examples = number(source, args.limit)
    for flag, value, most in (("--top", args.top, None), ("--references", args.references, examples)):
        if value < 1 or (most is not None and value > most):
            raise UserError(f"{flag} {value} must be a positive integer{'' if most is None else f', at most the number of examples, {most}'}")
