"""The command line `jxai`: a thin call into the library. Bad input is one line on stderr and exit code 2.

- a file for each command, imported when it is called: `jxai --help` loads no JAX.
- `parser` says what can be typed, `options` reads `--sobol.grid 11` by the methods' signatures, `inputs` finds images, models and classes.
- `compiler` and `programs` say how to compile, `cache` keeps what was compiled, `listing` prints what there is.
- `calls`, `jobs`, `pictures` and `cost`: the programs of `explain`, one image of it, which images, and what it will cost.
- `html`, `explained`, `certified`, `changed`, `clustered`, `sufficed`, `conceived`: the pages of `--html`.
- `doctor` and `selftest`, `completion`: whether it works, and what a shell completes.
- `errors` and `progress`: what a person sees of a mistake, of long work, and of Ctrl-C.

What may be touched: a new command is a file with `main(args, given)` and a parser. It prints and calls; whatever it computes belongs into the library.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence

from jxai.cli import arguments, cache, compiler, parser
from jxai.cli.errors import UserError, first_line, need
from jxai.cli.progress import Interrupts

_WITH_OPTIONS = ("explain", "evaluate", "certify", "counterfactual", "concepts", "uncertainty")
_CLAIMS = ("suffice", "disambiguate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 1 where a certificate does not hold or `doctor` finds something broken, 2 for bad input, 130 after Ctrl-C."""
    if argv is None:  # the process is ours: Python's collector need not look at JAX itself again and again, a twentieth of a short command
        gc.set_threshold(100_000, 50, 100)
        if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is shown by escapes
            sys.stdout.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with Interrupts():
            return _main(argv)
    except UserError as error:
        return _fail(first_line(error), 2)
    except BrokenPipeError:
        # The reader of a pipe has gone; what Python would flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else first_line(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _main(argv: list[str]) -> int:
    given: list[tuple[str, str, str]] = []
    typed = shlex.join(["jxai", *argv])
    argv = arguments.joined(argv)
    if argv[:1] in [[command] for command in (*_WITH_OPTIONS, *_CLAIMS)]:
        argv, given = arguments.split(argv)
    args = parser.parser().parse_args(argv, argparse.Namespace(typed=typed))
    if not (args.command == "report" and args.no_pictures):
        need(args.command)
    if getattr(args, "html", False):
        need("--html")
    if args.command in (*_WITH_OPTIONS, *_CLAIMS, "verify"):
        compiler.hasten()
        cache.keep()
    if args.command in _WITH_OPTIONS:
        importlib.import_module(f"jxai.cli.{args.command}").main(args, given)
    elif args.command in (*_CLAIMS, "verify"):
        claims = importlib.import_module("jxai.cli.sufficiency")
        if args.command == "verify":
            return claims.verify(args)
        getattr(claims, args.command)(args, given)
    elif args.command == "report":
        importlib.import_module("jxai.cli.evaluate").report(args)
    elif args.command == "doctor":
        return importlib.import_module("jxai.cli.doctor").main(args.json)
    elif args.command == "completion":
        importlib.import_module("jxai.cli.completion").main(args.shell)
    elif args.command in ("compare", "spray"):
        importlib.import_module(f"jxai.cli.{args.command}").main(args)
    else:
        from jxai.cli import listing

        {"methods": listing.methods, "metrics": listing.metrics, "models": listing.models, "scores": listing.scores}[args.command](args.name)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"jxai: {'error: ' if code == 2 else ''}{message}", file=sys.stderr)
    return code
