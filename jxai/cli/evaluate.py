"""`jxai evaluate` and `jxai report`: a data set, a model, methods and metrics in; a run's folder, tables and pictures out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jxai.cli.errors import UserError, first_line, told
from jxai.cli.progress import Reporter

EMBEDDED = {"digits": "digits_cnn"}


def main(args: argparse.Namespace, given: list[tuple[str, str, str]]) -> None:
    """Checks everything, runs what is left to do with progress, and says what to do next."""
    _join(args)
    import jax

    from jxai import evaluate
    from jxai.cli import columns, inputs
    from jxai.data.named import refuse_unknown

    methods, metrics = columns.chosen(args.methods, args.metrics, given, args.score)
    try:
        refuse_unknown(args.dataset, args.data_dir)  # before a network is read, or trained
        subject = inputs.subject(args.model or EMBEDDED.get(args.dataset, "efficientnet_lite0"))
        source = inputs.source(args, args.dataset, subject, masks=args.masks)
        if args.methods.strip() == columns.ALL:
            asked = {name for name, *_ in given}
            methods, left_out = evaluate.possible(subject.model, source, methods, preprocess=subject.preprocess, scalar=args.target is None, always=asked)
            for name, why in left_out.items():
                print(f"{name} is left out: {why}", flush=True)
        options = dict(target=args.target, where=args.where, limit=args.limit, sample=args.sample, shuffle=args.shuffle, seed=args.seed, block=args.block)
        options |= dict(
            seeds=columns.seeds(args.seeds),
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
