"""An experiment as a function and as a command: `run(config)` goes on where it was stopped, and `command_line` reads the configuration's options."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from jxai.data import Source
from jxai.evaluate import findings
from jxai.evaluate.record import Record
from jxai.evaluate.report import report
from jxai.evaluate.run import run as evaluate
from jxai.evaluate.store import Run
from jxai.evaluate.table import Row
from jxai.identity.compare import differences
from jxai.models.catalogue import Pretrained

Rows = list[dict[str, Any]]
NEEDED = ("matplotlib", "rich", "tyro")
"""What the extra `experiments` brings for pictures, progress and options."""


def recorded(run: Callable[[Any, Record], Rows]) -> Callable[..., Rows]:
    """`run(config, here) -> rows` as `run(config, on_progress=None) -> rows`: whatever happens it returns what is in `results.json`.

    Results of the configuration that are there are not computed again. Within, `here.kept` and `here.kept_rows` keep what is dear, and
    `here.path` is the folder for all else.
    """

    def whole(config: Any, on_progress: Callable[[Any], None] | None = None) -> Rows:
        here = Record(config, on_progress)
        if here.results() is None:
            here.write(run(config, here))
        return here.results()["rows"]

    whole.__name__, whole.__qualname__, whole.__doc__, whole.__module__ = run.__name__, run.__qualname__, run.__doc__, run.__module__
    return whole


def evaluated(here: Record, subject: Pretrained, source: Source, explained: Any, judged: Any, **options: Any) -> tuple[Run, list[Row]]:
    """A run of methods × metrics in the record's folder, by the `model`, `limit` and `seed` of its configuration, and the rows of its report."""
    config = here.config
    known = {
        "preprocess": subject.preprocess,
        "model_name": config.model,
        "limit": config.limit,
        "sample": "first",
        "seed": config.seed,
        "on_progress": here.on_progress,
    }
    done = evaluate(subject.model, source, explained, judged, here.path / "run", **known, **options)
    return done, cast(list[Row], report([done], here.path / "report"))


def over_seeds(line: str, column: str) -> Callable[[Any, Rows], None]:
    """Shows a table of what was found over all seeds, by two of the rows' names."""
    return lambda config, rows: print(findings.table([row for row in rows if row["seed"] == "all"], line, column))


@contextlib.contextmanager
def lines():
    """Progress as lines on the output."""
    yield functools.partial(print, flush=True)


def command_line(
    config_type: type,
    run: Callable[..., Rows],
    show: Callable[[Any, Rows], None],
    doc: str,
    progress: Callable[[], AbstractContextManager[Callable[[Any], None]]] = lines,
) -> None:
    """Reads a configuration from the command line, runs, and shows the rows; ends the program with exit code 2 and one line where it cannot begin.

    Args:
      config_type: the frozen dataclass. run: `recorded`. show: prints the tables of `(config, rows)`. doc: the experiment's docstring.
      progress: makes a context whose value is told how far the run is.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:  # now rather than when there is something to draw
        sys.exit(_complain(f"experiments need {', '.join(missing)}: pip install 'jxai[experiments]', or '.[experiments]' in a checkout"))
    import tyro

    config = tyro.cli(tyro.conf.configure(tyro.conf.PositionalRequiredArgs)(config_type), description=doc)
    here = Record(config)
    for text in state(here):
        print(text, file=sys.stderr, flush=True)
    try:
        with progress() as on_progress:
            rows = run(config, on_progress)
    except (ImportError, OSError, ValueError) as error:
        if here.has_work():  # what comes later is no slip of the person's, and a trace helps
            raise
        sys.exit(_complain(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__))
    except KeyboardInterrupt:
        sys.exit(_complain(f"interrupted; the same command goes on with what is in {here.folder}" if here.has_work() else "interrupted", 130))
    show(config, rows)
    print(f"\nresults: {here.folder / 'results.json'}")


def state(here: Record) -> list[str]:
    """What is there already, and whether other code has made it than would now, in a line each."""
    begun = here.begun()
    if begun is None or not here.has_work():
        return []
    done = here.results() is not None
    told = [f"{here.folder} has the results of this configuration; remove it to run anew" if done else f"going on with what is kept in {here.folder}"]
    current = here.identity()
    for run in begun["runs"]:
        made = {name: run[name] for name in current}
        if found := differences(made, current):
            told.append(f"  what was begun there {run['began']} was made by other code: {'; '.join(found)}")
    return list(dict.fromkeys(told))


def _complain(message: str, code: int = 2) -> int:
    print(f"{sys.argv[0]}: {'error: ' if code == 2 else ''}{message}", file=sys.stderr)
    return code
