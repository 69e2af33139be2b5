"""`jxai suffice`, `jxai disambiguate` and `jxai verify`: claims about an image, with certificates that anyone can check again."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.cli import inputs, options
from jxai.cli.errors import UserError, first_line, known, told
from jxai.files import printable
from jxai.scores import SCORES, scored

METHODS = ("batched_gradient_sis", "sis", "random_subset")


def suffice(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """A subset of the image that brings the model to its confidence: a sentence, a picture, a certificate."""
    from jxai import certificates, plot, sufficiency

    fn = getattr(sufficiency, known("method", args.method, METHODS))
    for name, option, _ in given:
        if name in METHODS and name != args.method:
            raise UserError(f"--{name}.{option}: {name} is not asked for, only {args.method}")
    path, subject, x, logits = _image(args)
    # A threshold is of a probability, as the paper has it, unless another score is named.
    setting = {"score": "sigmoid" if logits.size == 1 else "probability", **options.parse(given, {args.method: fn})[args.method], "threshold": args.threshold}
    score = known("score", setting["score"], SCORES)
    values = np.asarray(scored(logits, score))
    targets = inputs.targets(args.target, subject, logits.size) or [int(logits.argmax())]
    if len(targets) > 1:
        raise UserError(f"--target {args.target} must name one class")
    label = targets[0]
    if not values[label] >= args.threshold:
        raise UserError(f"--threshold {args.threshold:g} is above the {score} of {subject.label(label)}, {values[label]:.4g}")
    with told():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "no feature is needed")  # it is said below
            found = fn(subject.model, x, label, jax.random.key(args.seed), **_segmented(setting, x))
    out, num = Path(args.out), found.held.shape[-1]
    certificates.save(out / "certificate.npz", found)
    name, shown = subject.label(label), found.shown(x)
    if x.ndim == 3:
        titles = [printable(path.name), f"{found.size} of {num} features held"]
        plot.save(plot.removals(x, shown[None], np.asarray([[values[label]], [found.value]]), [name], titles=titles, score=score), out / "sufficient.png")
    plot.save(plot.confidence({args.method: found.curve}, args.threshold, title=name, ylabel=score), out / "curve.png")
    features = "pixels" if num == np.prod(x.shape[:-1] or x.shape) else "features"
    sentences = [
        f"{printable(path.name)}: {int(found.size)} of {num} {features} ({float(found.size) / num:.1%}) suffice for {name} at {score} {float(found.value):.3g}, of {values[label]:.3g}"
    ]
    if found.vacuous:
        sentences.append(
            f"  which says nothing of {printable(path.name)}: all replaced by the fill it is {name} already; try --{args.method}.fill blur:10, mean or another number"
        )
    print("\n".join(sentences))
    if args.html:
        from jxai.cli import sufficed

        asked = {args.method: (fn, {k: v for k, v in setting.items() if k != "segments"})}
        sufficed.subset(out / "sufficient.html", path.name, subject, np.asarray(x), logits, found, sentences, float(values[label]), args, asked)
    _wrote(out)


def disambiguate(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Whether likely labels are two things in the image or two guesses about one: a sentence for each pair, pictures, certificates."""
    from jxai import certificates, plot, sufficiency
    from jxai.sufficiency.disambiguate import DEFAULT

    setting = options.parse(given, {"disambiguate": sufficiency.disambiguate})["disambiguate"]
    path, subject, x, logits = _image(args)
    setting = _segmented({"segments": DEFAULT, **setting}, x)
    labels = inputs.targets(args.labels, subject, logits.size) or [int(c) for c in np.argsort(-logits, kind="stable")[: args.top]]
    if len(labels) < 2:
        raise UserError(f"--labels {args.labels} must name two classes or more" if args.labels else f"--top {args.top} must be 2 or more")
    out, key = Path(args.out), jax.random.key(args.seed)
    pairs = [(a, b) for n, a in enumerate(labels) for b in labels[n + 1 :]]
    with told("", TypeError):
        found = sufficiency.disambiguate_pairs(subject.model, x, pairs, key, delta=args.delta, **setting)
    sentences = []
    for (a, b), one in zip(pairs, found):
        names = [subject.label(c).split(",")[0] for c in (a, b)]
        sentences.append(sentence(one, names))
        print(f"{printable(path.name)}: {sentences[-1]}")
        for kind, certificate in (("disjoint", one.disjoint), ("overlapping", one.overlapping)):
            if certificate.holds:
                certificates.save(out / f"{kind}_{a}_{b}.npz", certificate)
        chosen = one.disjoint if one.disjoint.holds or not one.overlapping.holds else one.overlapping
        if x.ndim == 3:
            plot.save(plot.certificate(x, chosen, dict(zip((a, b), names)), title=printable(path.name)), out / f"pair_{a}_{b}.png")
    if args.html:
        from jxai.cli import sufficed

        asked = {"disambiguate": (sufficiency.disambiguate, {**setting, "delta": args.delta})}
        sufficed.pairs(out / "disambiguation.html", path.name, subject, np.asarray(x), logits, list(zip(pairs, found, sentences)), args, asked)
    _wrote(out)


def sentence(found, names: list[str]) -> str:
    """What was found out about two labels, in words."""
    first, second = names
    disjoint, overlapping = found.disjoint, found.overlapping
    num = disjoint.removed.shape[-1]
    if disjoint.holds:
        whole, shares = np.asarray(disjoint.whole), np.asarray(disjoint.shares)
        left = shares * whole
        return (
            f"{first} and {second} rest on different parts (δ = {float(disjoint.reached):.2f}): removing {int(disjoint.size[0])} of {num} segments drops {first} from "
            f"{whole[0]:.2g} to {left[0, 0]:.2g} and leaves {second} at {left[0, 1]:.2g}; removing {int(disjoint.size[1])} others drops {second} from "
            f"{whole[1]:.2g} to {left[1, 1]:.2g} and leaves {first} at {left[1, 0]:.2g}"
        )
    if overlapping.holds:
        whole, left = np.asarray(overlapping.whole), np.asarray(overlapping.shares * overlapping.whole)
        return (
            f"{first} and {second} rest on the same part (δ = {float(overlapping.reached):.2f}): removing {int(overlapping.size)} of {num} segments drops {first} "
            f"from {whole[0]:.2g} to {left[0]:.2g} and {second} from {whole[1]:.2g} to {left[1]:.2g}"
        )
    return (
        f"{first} and {second}: nothing was proved at δ = {float(disjoint.delta):.2f} (disjoint up to {max(0.0, float(found.largest_disjoint)):.2f}, "
        f"overlapping up to {max(0.0, float(found.largest_overlapping)):.2f})"
    )


def verify(args: argparse.Namespace) -> int:
    """Checks a certificate again; returns the exit code, 0 where it holds and 1 where it does not."""
    from jxai import certificates

    path = Path(args.certificate)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        certificate = certificates.load(path)
    except ValueError as error:
        raise UserError(first_line(error)) from error
    image, subject, x, _ = _image(args)
    with told(f"{path} is not about {image} and {subject.name}: ", IndexError):
        verdict = certificates.verify(subject.model, x, certificate)
    print(f"{printable(path.name)}, {type(certificate).__name__}: {'holds' if verdict.holds else 'does NOT hold'}")
    for name, value in verdict.values.items():
        print(f"  {name:<16}{value:>10.4g}  must exceed {verdict.thresholds[name]:.4g}{'' if value > verdict.thresholds[name] else '  ← does not'}")
    return 0 if verdict.holds else 1


def _image(args: argparse.Namespace) -> tuple[Path, inputs.Subject, jax.Array, np.ndarray]:
    path = Path(args.image) if args.image else inputs.photograph()
    subject = inputs.subject(args.model)
    x = jnp.asarray(inputs.example(path, inputs.read(path, inputs.medical(args, path)), subject))
    inputs.num_classes(subject, x)
    logits = np.asarray(jax.jit(lambda v: subject.model(v))(x), np.float32)
    if not np.isfinite(logits).all():
        raise UserError(f"{path}: {(~np.isfinite(logits)).sum()} of the {logits.size} logits of {subject.name} are not finite")
    inputs.check_logits(subject, np.asarray(x), logits)
    return path, subject, x, logits


def _segmented(setting: dict[str, Any], x: jax.Array) -> dict[str, Any]:
    """The options with segments of this image."""
    from jxai.removal.segments import Segmentation

    segments = setting.get("segments")
    if not isinstance(segments, Segmentation):
        return setting
    try:
        return {**setting, "segments": segments(np.asarray(x))}
    except ValueError as error:
        raise UserError(first_line(error)) from error


def _wrote(out: Path) -> None:
    print(f"wrote {', '.join(sorted(p.name for p in out.iterdir() if not p.name.startswith('.')))} into {out}")
