"""`jxai counterfactual`: what an image, or every example of a data set, would have to become for the model to say something else."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from jxai.cli.errors import UserError, known, told
from jxai.cli.evaluate import EMBEDDED
from jxai.cli.progress import Reporter

OF_DATA = ("anew", "shared", "limit", "block", "split", "data_dir", "label")
GENERATORS = {"digits_cnn": "digits_vae", "robust_mnist": "mnist_vae", "mnist_lenet5": "btcvae_mnist"}
"""The generator that goes with a model, where none is named."""
_SHOWN = 10
"""Examples of a data set on its picture, and targets of an example."""


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, then searches; writes pictures and arrays, or a run."""
    from jxai import counterfactual
    from jxai.cli import inputs, options

    fn = getattr(counterfactual, known("method", args.method, counterfactual.METHODS))
    setting = options.parse(given, {args.method: fn})[args.method]
    image = inputs.image_path(args.input)
    if image is not None and (meaningless := [name for name in OF_DATA if getattr(args, name) is not None]):
        raise UserError(f"--{meaningless[0].replace('_', '-')} says nothing about an image")
    with told():
        subject = inputs.subject(args.model or EMBEDDED.get(args.input, "efficientnet_lite0"))
        name = args.generator or GENERATORS.get(subject.name)
        if "generator" in options.schema(fn):
            if name is None:
                raise UserError(f"{args.method} needs --generator: a name of `jxai.models.generators()`, or package.module:factory")
            setting["generator"] = inputs.generator(name)
        elif args.generator:
            raise UserError(f"--generator says nothing about {args.method}, which searches among the examples themselves")
        if image is None:
            _data_set(args, subject, setting, name or "")
        else:
            _one(image, args, subject, setting)


def _data_set(args: argparse.Namespace, subject, setting: dict[str, Any], generator: str) -> None:
    from jxai import evaluate, plot
    from jxai.cli import inputs
    from jxai.evaluate.counterfactual_runs import TARGETS

    out = args.out or "counterfactuals"
    source = inputs.source(args, args.input, subject)
    target = args.target or ("none" if _without_target(args.method) else "second")
    target = target if target in TARGETS else _class(target, subject)
    options = dict(method=args.method, options=setting, target=target, limit=args.limit, sample=args.sample, seed=args.seed, block=args.block or 100)
    options |= dict(preprocess=subject.preprocess, model_name=subject.name, generator_name=generator)
    options |= dict(anew=bool(args.anew), shared=bool(args.shared))
    try:
        with Reporter() as reporter:
            run = evaluate.counterfactuals(subject.model, source, out, **options, on_progress=reporter)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {out}", file=sys.stderr)
        raise
    for message in [m for m in run.table()["error"] if m][:5]:
        print(f"failed: {message}", file=sys.stderr)
    got = evaluate.found(run)
    print(f"{got.examples} examples of {source.name}, {got.failed} failed; {args.method} by {subject.name}, target {target}:")
    print(f"  {got.valid} of {got.searches} searches reached their target, after {got.steps:.0f} steps on average")
    if got.searches and len(run.config["data"]["x"]) in (1, 3):
        plot.save(_overview(run, source, subject), Path(out) / "counterfactuals.png")
    print(f"wrote {out}")
    if args.html:
        from jxai.cli import changed

        changed.data_set(Path(out) / "counterfactuals.html", run, source, subject, got, args)


def _one(path: Path, args: argparse.Namespace, subject, setting: dict[str, Any]) -> None:
    import jax
    import numpy as np

    from jxai import counterfactual, plot
    from jxai.cli import inputs
    from jxai.evaluate.counterfactual_runs import columns_of, searched
    from jxai.files import printable, save_arrays

    x = inputs.example(path, inputs.read(path, inputs.medical(args, path)), subject)
    logits = np.asarray(jax.jit(lambda v: subject.model(v))(x))
    if not np.isfinite(logits).all():
        raise UserError(f"{path}: {(~np.isfinite(logits)).sum()} of the {logits.size} logits of {subject.name} are not finite")
    inputs.check_logits(subject, x, logits)
    order = np.argsort(-logits, kind="stable")
    others = [c for c in order if c != order[0]]
    text = args.target or ("none" if _without_target(args.method) else "second")
    if text == "none":
        raise UserError(f"{args.method} searches for certainty and not for a class: name a data set")
    wanted = others[:1] if text == "second" else others[:_SHOWN] if text == "all" else inputs.targets(text, subject, logits.size)
    search = searched(args.method, setting)
    wanted = np.asarray([wanted], np.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ searches are for the class")  # each is said below
        got = counterfactual.run(search, subject.model, x[None], wanted, jax.random.key(args.seed))
    found = jax.tree.map(lambda v: v[0], columns_of(got, x[None], wanted))
    p = np.take_along_axis(np.asarray(jax.nn.softmax(found.logits)), found.to[:, None], -1)[:, 0]
    sentences = [
        _sentence(subject, int(order[0]), int(c), bool(found.valid[j]), float(p[j]), x, found.x[j], int(found.steps[j])) for j, c in enumerate(found.to)
    ]
    for sentence in sentences:
        print(f"{printable(path.name)}: {sentence}")
    out = Path(args.out or "counterfactual")
    titles = [[f"{subject.label(int(c))} {p[j]:.2f}" for j, c in enumerate(found.to)]]
    save_arrays(out / "counterfactual.npz", x=x, found=found.x, target=found.to, logits=found.logits, valid=found.valid, steps=found.steps)
    if x.ndim in (1, 3):
        figure = plot.counterfactuals(x[None], found.x[None], titles=titles, originals=[subject.label(int(order[0]))], valid=found.valid[None])
        plot.save(figure, out / "counterfactual.png")
    generator = setting.get("generator")
    moved = np.flatnonzero(found.steps)
    if generator is not None and x.ndim == 3 and got.latent is not None and got.valid.ndim == 2 and moved.size:  # of a set there are several ways
        frames = counterfactual.latent_path(generator, x, jax.tree.map(lambda z: z[0, moved[0]], got.latent))
        plot.save_animation(frames, out / "path.gif")
    if args.html:
        from jxai.cli import changed

        changed.image(out / "counterfactual.html", path.name, subject, x, logits, found, sentences, args)
    print(f"wrote {', '.join(sorted(p.name for p in out.iterdir() if not p.name.startswith('.')))} into {out}")


def _sentence(subject, was: int, target: int, reached: bool, p: float, x, found, steps: int) -> str:
    import numpy as np

    if was == target:
        return f"{subject.label(target)} is what it is"
    change = np.abs(found - x)
    size = f"{int((change > 1e-5).sum())} of {change.size} entries changed, by {change.sum():.3g} in all"
    return f"{subject.label(was)} → {subject.label(target)} {'reached' if reached else 'NOT reached'}, p = {p:.2f} after {steps} steps; {size}"


def _overview(run, source, subject):
    """The first examples with their first counterfactuals."""
    import numpy as np

    from jxai import data, plot

    table, maps = run.table(), run.maps("counterfactual")
    rows = [r for r in range(len(table["index"])) if table["valid"][r]][:_SHOWN]
    x = data.load(source, [int(table["index"][r]) for r in rows], None, subject.preprocess).x
    found = np.stack([maps[int(table["index"][r])][:_SHOWN] for r in rows])
    label = lambda c: subject.label(int(c)).split(",")[0]
    titles = [[f"{label(c)} {p:.2f}" for c, p in zip(table["to"][r], table["probability"][r])] for r in rows]
    return plot.counterfactuals(x, found, titles=titles, originals=[label(table["predicted"][r]) for r in rows], valid=table["reached"][rows][:, :_SHOWN])


def _without_target(method: str) -> bool:
    """Whether a method searches for certainty: those are CLUE and its kin."""
    return method.endswith("clue")


def _class(text: str, subject) -> int:
    from jxai.cli import inputs

    found = inputs.targets(text, subject, subject.num_classes)
    if len(found) > 1:
        raise UserError(f"--target {text} must be second, all, or one class")
    return found[0]
