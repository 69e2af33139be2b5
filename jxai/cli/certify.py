"""`jxai certify`: what bounds prove and attacks find within a radius, of one image or of a data set."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from jxai.cli.errors import UserError, known, told
from jxai.cli.evaluate import EMBEDDED
from jxai.cli.progress import Reporter, said
from jxai.files import printable

OF_DATA = ("anew", "shared", "limit", "block", "batch_size", "split", "data_dir", "label")


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, then certifies and attacks; writes a certificate, or a run."""
    from jxai.bounds import METHODS, margins
    from jxai.cli import inputs, options

    known("method", args.method, METHODS)
    bound = options.parse(given, {"margins": margins})["margins"]
    if "method" in bound:
        raise UserError("--margins.method is --method")
    setting = {"radius": args.radius, "p": _norm(args.p), "clip": _range(args.clip), "method": args.method, "steps": args.steps, "restarts": args.restarts}
    image = inputs.image_path(args.input)
    if image is not None and (meaningless := [name for name in OF_DATA if getattr(args, name) is not None]):
        raise UserError(f"--{meaningless[0].replace('_', '-')} says nothing about an image")
    with told():
        subject = inputs.subject(args.model or EMBEDDED.get(args.input, "efficientnet_lite0"))
        if image is None:
            _data_set(args, subject, setting, bound)
        else:
            _one(image, args, subject, setting, bound)


def _data_set(args: argparse.Namespace, subject, setting: dict[str, Any], bound: dict[str, Any]) -> None:
    from jxai import evaluate
    from jxai.cli import inputs

    out = args.out or "certification"
    source = inputs.source(args, args.input, subject)
    options = dict(target=args.target or "label", limit=args.limit, sample=args.sample, seed=args.seed, block=args.block, batch_size=args.batch_size)
    options |= dict(preprocess=subject.preprocess, model_name=subject.name, options=bound, anew=bool(args.anew), shared=bool(args.shared))
    try:
        with Reporter() as reporter:
            run = evaluate.certify(subject.model, source, out, **setting, **options, on_progress=reporter)
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {out}", file=sys.stderr)
        raise
    for message in [m for m in run.table()["error"] if m][:5]:
        print(f"failed: {message}", file=sys.stderr)
    found = evaluate.counts(run)
    total = found.certified + found.attacked + found.unknown
    print(f"{total} examples of {source.name}, {_ball(setting)}, by {args.method}:")
    notes = {"attacked": f", {found.misclassified} of them misclassified as they are"}
    for name in ("certified", "attacked", "unknown"):
        count = getattr(found, name)
        print(f"  {name:<10}{count:>7}  {count / max(total, 1):6.1%}{notes.get(name, '')}")
    if found.failed:
        print(f"  {'failed':<10}{found.failed:>7}")
    print(f"wrote {out}")
    if args.html:
        from jxai.cli import certified

        certified.data_set(Path(out) / "certification.html", run, source, subject, found, args, setting)


def _one(path: Path, args: argparse.Namespace, subject, setting: dict[str, Any], bound: dict[str, Any]) -> None:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jxai import certificates
    from jxai.bounds.attack import attack
    from jxai.bounds.certify import certify, least
    from jxai.callables import partition
    from jxai.cli import inputs

    out = args.out or "certificate.npz"
    if not out.endswith(".npz"):
        raise UserError(f"--out {out} must end in .npz for an image")
    x = inputs.example(path, inputs.read(path, inputs.medical(args, path)), subject)
    targets = inputs.targets(args.target, subject, inputs.num_classes(subject, x)) or [None]
    if len(targets) > 1:
        raise UserError(f"--target {args.target} must name one class")
    steps, restarts = setting.pop("steps"), setting.pop("restarts")
    with said(f"{printable(path.name)}: compiling and bounding by {args.method}"):
        certificate = certify(subject.model, jnp.asarray(x), args.radius, targets[0], **{k: v for k, v in setting.items() if k != "radius"}, **bound)
    label = int(certificate.label)
    arrays, static = partition(subject.model)

    def search(arrays, region, label, key):
        f = static.combine(arrays)
        found = attack(f, region, label, key, steps=steps, restarts=restarts)
        return found, f(found.x), f(x)

    with said(f"{printable(path.name)}: compiling and attacking"):
        found, there, here = jax.block_until_ready(jax.jit(search)(arrays, certificate.region, certificate.label, jax.random.key(args.seed)))
    if not np.isfinite(here).all():
        raise UserError(f"{path}: {(~np.isfinite(here)).sum()} of the {here.size} logits of {subject.name} are not finite")
    what, holds = f"{printable(path.name)}, {subject.label(label)}", bool(certificate.holds)
    if int(np.argmax(here)) != label:
        sentence, holds = f"{what}: {subject.name} says {subject.label(int(np.argmax(here)))} as it is", False
    elif holds and bool(found.success):
        raise RuntimeError(f"{path} is certified (margin {least(certificate.margins, certificate.label)}) and attacked ({found.margin}): the bounds are wrong")
    elif holds:
        margin = float(least(certificate.margins, certificate.label))
        certificates.save(out, certificate)
        sentence = f"{what}: certified, no change within {_ball(setting)} changes the class (margin at least {margin:.4g} by {args.method})"
    elif bool(found.success):
        sentence = f"{what}: attacked, a change within {_ball(setting)} makes {subject.name} say {subject.label(int(np.argmax(there)))}"
    else:
        sentence = (
            f"{what}: unknown, {args.method} proves nothing within {_ball(setting)}, and no attack changes the class (least margin {float(found.margin):.4g})"
        )
    print(f"{sentence}; wrote {out}" if holds else sentence)
    if args.html:
        from jxai.cli import certified

        saved, page = out if holds else "", Path(out).with_suffix(".html")
        certified.image(page, path.name, subject, x, sentence, certificate, found, np.asarray(here), np.asarray(there), args, setting, bound, saved)


def _ball(setting: dict[str, Any]) -> str:
    return f"radius {setting['radius']:g} (p = {setting['p']:g})"


def _norm(text: str) -> float:
    return math.inf if text == "inf" else int(text)


def _range(text: str) -> tuple[float, float] | None:
    if text.lower() == "none":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--clip {text!r} must be LOW,HIGH or none") from None
    return low, high
