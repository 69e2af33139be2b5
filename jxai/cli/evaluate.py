"""`jxai evaluate` and `jxai report`: a data set, a model, methods and metrics in; a run's folder, tables and pictures out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from jxai.cli.errors import UserError, first_line, known, told
from jxai.cli.progress import Reporter

EMBEDDED = {"digits": "digits_cnn"}


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, runs what is left to do with progress, and says what to do next."""
    _join(args)
    import jax

    from jxai import data, evaluate
    from jxai.cli import inputs

    methods, metrics = _chosen(args, given)
    try:
        subject = inputs.subject(args.model or EMBEDDED.get(args.dataset, "efficientnet_lite0"))
        where = dict(split=args.split, data_dir=args.data_dir, label=args.label, masks=args.masks, medical=inputs.medical(args))
        source = data.source(args.dataset, **where, class_names=subject.class_names, num_classes=subject.num_classes, channels=subject.channels)
        options = dict(target=args.target, where=args.where, limit=args.limit, sample=args.sample, shuffle=args.shuffle, seed=args.seed, block=args.block)
        options |= dict(
            batch_size=args.batch_size,
            keep_maps=not args.no_maps,
            anew=bool(args.anew),
            shared=bool(args.shared),
            preprocess=subject.preprocess,
            model_name=subject.name,
        )
        with Reporter() as reporter:
            run = evaluate.run(subject.model, source, methods, metrics, args.out, on_progress=reporter, **options)
    except (ValueError, ImportError) as error:
        raise UserError(first_line(error)) from error
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {args.out}", file=sys.stderr)
        raise
    if jax.process_index() == 0:
        failed = run.table()["error"]
        for message in [m for m in failed if m][:5]:
            print(f"failed: {message}", file=sys.stderr)
        print(f"{len(failed)} examples are done, {(failed != '').sum()} failed; `jxai report {args.out}` makes the tables")


def report(args: argparse.Namespace) -> None:
    """Writes the tables and pictures, and prints the Markdown table."""
    from jxai import evaluate

    out = Path(args.out) if args.out else Path(args.runs[0]) / "report"
    with told():
        evaluate.report(args.runs, out, pictures=not args.no_pictures, images=args.images)
    print((out / "summary.md").read_text("utf-8"))
    print(f"wrote {', '.join(sorted(path.name for path in out.iterdir() if not path.name.startswith('.')))} into {out}")


def _chosen(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Methods and metrics by label, each with its function and the options that were given for it."""
    from jxai.cli import options
    from jxai.naming import ABSOLUTE

    every, judges = options.methods(), options.judges()
    names = list(every) if args.methods.strip() == "all" else _names("--methods", args.methods)
    labels = dict(_named("--methods", "method", name, every, ABSOLUTE) for name in names)
    metrics = dict(_named("--metrics", "metric", name, judges) for name in _names("--metrics", args.metrics))
    functions = {name.removeprefix(ABSOLUTE): fn for name, fn in labels.items()} | metrics
    values = options.parse(given, functions)
    options.share_score(args.score, {name: values[name] for name in (label.removeprefix(ABSOLUTE) for label in labels)})
    methods = {label: (fn, values[label.removeprefix(ABSOLUTE)]) for label, fn in labels.items()}
    return methods, {label: (fn, values[label]) for label, fn in metrics.items()}


def _named(flag: str, kind: str, name: str, every: dict[str, Any], prefix: str = "") -> tuple[str, Any]:
    """A label and its function: a name of jxai's, or `package.module:function` of one's own, which is labelled by the function."""
    from jxai.cli import inputs

    bare = name.removeprefix(prefix)
    if ":" not in bare:
        return name, every[known(kind, bare, every)]
    label = bare.partition(":")[2]
    if label in every:
        raise UserError(f"{flag} {name}: {label} is a {kind} of jxai's, too; give it another name")
    if not callable(made := inputs.imported(bare, flag)):
        raise UserError(f"{flag} {name} is a {type(made).__name__}, which cannot be called")
    return name[: len(name) - len(bare)] + label, made


def _names(flag: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag} names none")
    if len(set(names)) < len(names):
        raise UserError(f"{flag} names {next(n for n in names if names.count(n) > 1)!r} twice")
    return names


def _join(args: argparse.Namespace) -> None:
    """Becomes one of a JAX cluster; before anything else touches JAX's devices."""
    manual = {"coordinator": args.coordinator, "processes": args.processes, "process": args.process}
    if not args.distributed:
        if any(value is not None for value in manual.values()):
            raise UserError("--coordinator, --processes and --process go with --distributed")
        return
    from jxai.evaluate import join

    with told("--distributed: ", RuntimeError):
        join(**manual)
