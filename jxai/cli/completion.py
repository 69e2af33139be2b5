"""`jxai completion SHELL`: a script by which a shell completes commands, options, methods, metrics, scores, models, data sets and files."""

from __future__ import annotations

import argparse
from typing import Any

import jxai
from jxai.cli import parser

HOW = {
    "bash": 'eval "$(jxai completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(jxai completion zsh)" in ~/.zshrc, after compinit',
    "fish": "jxai completion fish > ~/.config/fish/completions/jxai.fish",
}
"""What a person writes, once."""


def main(shell: str) -> None:
    """Prints the script."""
    print(script(shell))


def script(shell: str) -> str:
    """The script, of what this installation has: another version of jxai, or another data set, asks for it anew."""
    import shtab

    whole = parser.parser()
    _fill(parser.commands(whole), shtab)
    first, rest = shtab.complete(whole, shell=shell).split("\n", 1)
    note = f"# jxai {jxai.__version__}. To have it: {HOW[shell]}"
    return "\n".join([first, note, rest] if first.startswith("#") else [note, first, rest])


def _fill(commands: dict[str, argparse.ArgumentParser], shtab: Any) -> None:
    """Gives every argument the values that it can have."""
    from jxai import bounds, counterfactual, models
    from jxai.cli import options
    from jxai.cli.sufficiency import METHODS
    from jxai.evaluate.uncertain.plan import every

    methods, metrics, generators = list(options.methods()), list(options.judges()), list(models.generators())
    scores = list(every())
    claims = {"certify": bounds.METHODS, "counterfactual": counterfactual.METHODS, "suffice": METHODS}
    for name, command in commands.items():
        chosen = {"methods": [*methods, "all"], "metrics": metrics, "model": list(models.available()), "generator": generators, "method": claims.get(name)}
        chosen["name"] = {"methods": methods, "metrics": metrics, "models": list(models.available()), "scores": scores}.get(name)
        chosen["scores"] = [*scores, "all"]
        for action in command._actions:
            if action.dest in ("image", "images", "certificate", "a", "b"):
                action.complete = shtab.FILE
            elif action.dest in ("out", "run", "runs", "masks", "data_dir"):
                action.complete = shtab.FILE if name == "certify" else shtab.DIRECTORY
            elif action.dest in ("dataset", "input", "against", "fit_on"):
                action.complete = _data_sets(action.dest == "input")
            elif values := chosen.get(action.dest):
                action.choices = list(values)


def _data_sets(or_images: bool) -> dict[str, Any]:
    """Names of data sets that are there, folders, and images where those are taken."""
    from jxai.data.prepared import there

    names, files = " ".join(["digits", *there()]), "f" if or_images else "d"
    return {
        "bash": f"_jxai_data_{files}",
        "zsh": f"_jxai_data_{files}",
        "fish": f"(_jxai_data_{files})",
        "preamble": {
            "bash": f'_jxai_data_{files}() {{\n  compgen -W "{names}" -- $1\n  compgen -{files} -- $1\n}}',
            "zsh": f"_jxai_data_{files}() {{\n  compadd {names}\n  _files{'' if or_images else ' -/'}\n}}",
            "fish": f"function _jxai_data_{files}\n  printf '%s\\n' {names}\n  __fish_complete_{'path' if or_images else 'directories'} (commandline -ct)\nend",
        },
    }
