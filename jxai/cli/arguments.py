"""Arguments that several commands share, and how words become them. Loads nothing but the standard library."""

from __future__ import annotations

import argparse
import os
import re

from jxai.cli.errors import UserError

MODEL = "efficientnet_lite0"
_OPTION = re.compile(r"--([A-Za-z_]\w*)\.([\w-]+)(?:=(.*))?", re.DOTALL)


LISTS = {
    "explain": ("--methods", "--target", "--window"),
    "evaluate": ("--methods", "--metrics", "--seeds", "--window"),
    "certify": ("--window",),
    "counterfactual": ("--target", "--window"),
    "concepts": ("--channels", "--window"),
    "spray": ("--methods", "--label"),
    "uncertainty": ("--scores", "--window"),
    "suffice": ("--window",),
    "disambiguate": ("--labels", "--window"),
    "verify": ("--window",),
}
"""By command, the options that take words one after another; see `named`."""


def split(argv: list[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Takes `--method.option value` (or `=value`) out of the arguments: the rest, and (method, option, value) triples."""
    rest, options, words = [], [], iter(argv)
    for word in words:
        match = _OPTION.fullmatch(word)
        if match is None:
            rest.append(word)
            continue
        method, option, value = match.groups()
        value = next(words, None) if value is None else value
        if value is None:
            raise UserError(f"{word} needs a value")
        options.append((method, option.replace("-", "_"), value))
    return rest, options


def medical(add) -> None:
    """The options by which DICOM and NIfTI files are read."""
    told = "CENTER,WIDTH in its units, file (its own window) or units (the values as they are); default: the range that it states"
    named(add, "--window", f"what is black and white in a DICOM or NIfTI file: {told}", metavar="WINDOW")
    add("--slice", help="of a DICOM or NIfTI volume: an index, or all for a video")
    add("--axis", type=int, help="of the volume, along which slices lie (default: frames of DICOM, the last one of NIfTI)")


def named(add, flag: str, what: str, metavar: str = "NAME", **options) -> None:
    """A list of names: `a b c`, `a,b,c`, or both. It ends at the next option, at `--`, and at a word that can only be a path: one with a slash, or with
    the suffix of an image. The value is one text, with commas."""
    add(flag, nargs="+", action=_Joined, metavar=metavar, help=what, **options)


class _Joined(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, ",".join(values))
        if len(words := getattr(namespace, self.dest).split(",")) > 1:
            parser.listed = f"{option_string} takes every word up to the next option, and took {words[-1]!r}, too"


def joined(argv: list[str]) -> list[str]:
    """Every list of the command as one word, `--methods=a,b,c`, so that what follows it is no longer in it."""
    words, done, lists = list(argv), [], LISTS.get(argv[0], ()) if argv else ()
    while words:
        word = words.pop(0)
        if word == "--":
            return [*done, word, *words]
        taken: list[str] = []
        while word in lists and words and not _ends(words[0], bool(taken)):
            taken.append(words.pop(0))
        done.append(f"{word}={','.join(taken)}" if taken else word)
    return done


def _ends(word: str, began: bool) -> bool:
    if word.startswith("-"):
        return re.fullmatch(r"-[\d.]+.*", word) is None
    if not began or not re.search(r"[./\\]", word):
        return False
    from jxai.data.folder import is_image

    return "/" in word or os.sep in word or word.lower().endswith(".npy") or is_image(word)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    listed = ""
    """What a list of several names took, for the case that something is missing."""

    def error(self, message: str):
        raise UserError(f"{message} ({self.listed}: put it first)" if self.listed and "are required" in message else message)


def command(commands, name: str, short: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A command whose epilog keeps its lines."""
    return commands.add_parser(name, help=short, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)


def model(add, by_data: bool = False) -> None:
    """`by_data`: None stands for the model that goes with the data set."""
    told = f"digits_cnn for digits, else {MODEL}" if by_data else "%(default)s"
    add("--model", default=None if by_data else MODEL, help=f"a name of `jxai models`, or package.module:factory (default: {told})")


def limit(add) -> None:
    """How many examples of a data set, and which."""
    add("--limit", type=int, help="at most so many examples")
    told = "which ones, where there is a limit: of every class its share, drawn by the seed, or the first (default: %(default)s)"
    add("--sample", default="stratified", choices=("stratified", "first"), help=told)


def score(add) -> None:
    """What of a class is explained."""
    told = "what is explained of a class: logit (default), probability, or sigmoid (one-logit and multi-label models)"
    add("--score", choices=("logit", "probability", "sigmoid"), help=f"{told}; --METHOD.score for one method")


def prepared(add) -> None:
    """Where a data set of TFDS is, and which of its parts and features are meant."""
    add("--split", help="of a TFDS data set (default: test, validation, or the only one), or of the digits (train or test; default: all)")
    add("--data-dir", help="where TFDS data sets are prepared (default: $JXAI_DATA/tfds, ../shared/tfds, or TFDS's own)")
    add("--label", help="the label's feature of a TFDS data set (default: label, or the one with as many classes as the model)")


def run(add) -> None:
    """What every run over a data set that has a page takes: the page, what to do about a run that is there, how many examples, how they are read."""
    html(add)
    anew(add)
    limit(add)
    prepared(add)
    medical(add)


def anew(add) -> None:
    """What to do about a run that is in the folder already."""
    add("--anew", action="store_true", default=None, help="remove a run that is in the folder already, instead of going on with it or refusing another one")
    add(
        "--shared",
        action="store_true",
        default=None,
        help="share the run with other processes that see the folder and say so, too; any may be killed, or come later",
    )


def html(add) -> None:
    """Whether a page is written."""
    add("--html", action="store_true", help="write a page, too: one HTML file to send")


def seed(text: str) -> int:
    """A seed as JAX takes it, of the words on the command line."""
    value = int(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} must be in [0, 2**32)")
    return value
