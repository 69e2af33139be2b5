"""`jxai explain`: images, a model and methods in; `explanation.png`, `explanation.npz` and a page out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.attribution import is_signed
from jxai.cli import inputs, jobs, options, pictures
from jxai.cli.calls import Calls, Made, Prepared
from jxai.cli.columns import ALL
from jxai.cli.errors import UserError, first_line, known
from jxai.cli.jobs import Job, begin
from jxai.evaluate import blank
from jxai.files import printable, save_arrays
from jxai.removal import fills
from jxai.scores import has_class

DEFAULT = (
    "integrated_gradients",
    "smoothgrad",
    "guided_backprop",
    "grad_cam",
    "xrai",
    "lime",
    "occlusion",
    "sobol",
    "hsic",
)


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, prints the classes, runs every method on every image and writes the results."""
    from rich.console import Console

    chosen = method_names(args.methods)
    optional = frozenset(chosen).difference(name for name, *_ in given) if args.methods and args.methods.strip() == ALL else frozenset()
    values = options.parse(given, {name: options.methods()[name] for name in chosen})
    options.share_score(args.score, values)
    shown = args.score or next((own["score"] for own in values.values() if own.get("score") == "sigmoid"), "probability")
    out = Path(args.out)
    images, console = pictures.listed(args.images, out), Console(highlight=False)
    how = inputs.medical(args, *(named.path for named in images))
    alone = len(images) == 1 and images[0].folder == out
    with console.status("reading the model"):
        subject = inputs.subject(args.model)
    calls, index, done = Calls(subject, values, args.seed, len(images)), pictures.Index(out), []
    if not alone:
        print(f"{len(images)} images, each into a folder of {out}\n", flush=True)
    try:
        for number, named in enumerate(images, 1):
            try:
                job, methods, left_out = begin(named, calls, chosen, args, how, alone, console, optional)
            except UserError as error:
                if alone or not (index.explained or isinstance(error, inputs.Unreadable)):  # else the command itself is wrong
                    raise
                print(f"failed: {first_line(error)}", file=sys.stderr, flush=True)
                index.fail(named, first_line(error))
                continue
            chosen, optional = [name for name in chosen if name not in left_out], frozenset()
            for name, why in left_out.items():
                print(f"  {name} is left out: {why}", flush=True)
            _print_classes(job, subject, shown, "" if alone else f"{number}/{len(images)} ")
            if methods is None:
                print(f"  explained in {named.folder} already (--anew explains it again)\n", flush=True)
            else:
                _print_blanks(job, calls, chosen, shown)
                maps = _run(methods, calls, console)
                _write(job, subject, maps, values, jobs.settings(calls, chosen, args.target, None if alone else job.x.shape), shown)
            done.append(named)
            confidences = inputs.confidences(job.logits, shown)
            index.add(named, [(target, subject.label(target), float(confidences[target])) for target in job.targets])
    except KeyboardInterrupt:
        if not alone:
            print(f"\nstopped; the same command goes on with {out}", file=sys.stderr)
        raise
    finally:
        if not alone and index.rows:
            index.write()
    if args.html and done:
        from jxai.cli import explained

        explained.write(out / "explanation.html", done, subject, chosen, values, shown, args)
    if not alone:
        if not index.explained:
            raise UserError(f"none of the {len(images)} images can be explained: {index.rows[0][-1]}")
        print(f"{index.explained} images explained, {index.failed} failed; wrote {index.path}")


def method_names(text: str | None) -> list[str]:
    """The methods that `--methods` names, separated by commas: the default nine, or `all`, of which `main` leaves out those that the model cannot have."""
    every = options.methods()
    if text is None:
        return list(DEFAULT)
    if text.strip() == ALL:
        return list(every)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in every and Path(name).exists():
            raise UserError(f"unknown method {name!r}, which is a file or a folder: put it before --methods, or write {Path('.', name)}/")
        known("method", name, every)
    if not names:
        raise UserError("--methods names none")
    return list(dict.fromkeys(names))


def _run(methods: dict[str, Prepared | Made], calls: Calls, console) -> dict[str, np.ndarray]:
    """Runs the methods one after another, and says how long each took to compile and to run."""
    maps = {}
    width = max(map(len, methods))
    for number, (name, method) in enumerate(methods.items(), 1):
        label = f"{number:>2}/{len(methods)} {name:<{width}}"
        if isinstance(method, Prepared):
            with console.status(f"{label}  compiling and running"):
                method = calls.call(method)
        maps[name] = method.value
        bad = int((~np.isfinite(maps[name])).sum())
        warning = f"  [yellow]{bad} of {maps[name].size} values are not finite[/]" if bad else ""
        console.print(f"{label}  {method.ran:7.2f} s" + ("" if method.compiled is None else f"  + {method.compiled:.2f} s to compile") + warning)
    return maps


def _print_classes(job: Job, subject: inputs.Subject, score: str, before: str) -> None:
    probabilities = inputs.confidences(job.logits, score)
    top = np.argsort(-job.logits, kind="stable")[:5]
    print(f"{before}{printable(job.image.name)}, {'×'.join(map(str, job.x.shape))}, seen by {subject.name}:")
    for index in [*top, *(t for t in job.targets if t not in top)]:
        print(f"  {probabilities[index]:6.1%}  {index:>4}  {subject.label(index)}{'  ← explained' if index in job.targets else ''}")
    print(flush=True)


def _print_blanks(job: Job, calls: Calls, methods: list[str], score: str) -> None:
    """Says which methods replace what they remove by something that is of an explained class by itself."""
    by: dict[str, tuple[Any, list[str]]] = {}
    for name in methods:
        for text, fill in blank.of_routine(options.methods()[name], calls.values[name]).items():
            by.setdefault(text, (fill, []))[1].append(name)
    for text, (fill, names) in by.items():
        filled = np.broadcast_to(fills.baseline(fill, jnp.asarray(job.x), jax.random.key(0)), job.x.shape)
        program, signature, (weights, _) = calls.prediction(job.x)
        logits = calls.call(Prepared(program, signature, (weights, filled))).value
        if had := [calls.subject.label(target) for target in job.targets if has_class(logits, target, score)]:
            print(
                f"  all replaced by {text} it is {', '.join(had)} already: what {', '.join(names)} removes takes nothing of that away; try another fill, such as blur:10",
                flush=True,
            )


def _write(job: Job, subject: inputs.Subject, maps: dict[str, np.ndarray], values: dict[str, dict], settings: dict[str, Any], score: str) -> None:
    from jxai import plot

    probabilities = inputs.confidences(job.logits, score)
    names = [f"{subject.label(t)} {probabilities[t]:.1%}" for t in job.targets]
    picture, arrays = job.folder / "explanation.png", job.folder / "explanation.npz"
    extra = {"x": job.x, "logits": job.logits, "targets": np.asarray(job.targets)}
    save_arrays(arrays, **maps, **extra, settings=np.asarray(json.dumps({**settings, "image": str(job.image)})))
    if not 1 <= job.x.ndim <= 4:
        print(f"wrote {arrays}; x of shape {job.x.shape} has no picture")
        return
    signs = {name: is_signed(options.methods()[name], values[name]) for name in maps}
    plot.save(plot.explanations(job.x, maps, names, title=f"{printable(job.image.name)}, {subject.name}", signed=signs), picture)
    print(f"wrote {picture} and {arrays}")
