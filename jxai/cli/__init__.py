"""The command line `jxai`: a thin call into the library. Bad input is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jxai.cli.errors import UserError, first_line

MODEL = "efficientnet_lite0"

_EPILOG = """\
Every option of a method is an option here: --sobol.grid 11, --rise.fill 0.5, --occlusion.fill blur:10, --lime.segments map.npy.
`jxai methods NAME` lists a method's options with their defaults.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
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
    if argv[:1] == ["explain"]:
        from jxai.cli import options

        argv, given = options.split(argv)
    args = _parser().parse_args(argv)
    if args.command == "explain":
        _cache_compilations()
        from jxai.cli.explain import explain

        explain(args, given)
    else:
        from jxai.cli import listing

        {"methods": listing.methods, "models": listing.models}[args.command](args.name)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jxai", description="Explains what a classifier sees.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    explain = commands.add_parser(
        "explain",
        help="explain the classes of images",
        description="Explains images; without one, a photograph of a cup of coffee.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("images", nargs="*", metavar="IMAGE", help="an image file, or an .npy with an example as the model takes it")
    explain.add_argument("--model", default=MODEL, help="a name of `jxai models`, or package.module:factory (default: %(default)s)")
    explain.add_argument("--methods", help="names separated by commas, or all (default: nine that differ)")
    explain.add_argument("--target", help="indices or names of classes, separated by commas (default: the top-1)")
    explain.add_argument("--out", default="explanation", help="folder for explanation.png and explanation.npz (default: %(default)s)")
    explain.add_argument("--seed", type=_seed, default=0, help="of the random numbers (default: %(default)s)")
    for name, what in (("methods", "methods, or one method with its options"), ("models", "models")):
        commands.add_parser(name, help=f"list {what}", description=f"Lists {what}.").add_argument("name", nargs="?", metavar="NAME")
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str):
        raise UserError(message)


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} must be in [0, 2**32)")
    return value


def _cache_compilations() -> None:
    """Keeps compiled programs under the user's cache folder, so that a second run starts fast."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jxai" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _fail(message: str, code: int) -> int:
    print(f"jxai: {'error: ' if code == 2 else ''}{message}", file=sys.stderr)
    return code
