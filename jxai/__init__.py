"""jxai: the explanation library for JAX. Pure functions of one example that compose with jit, vmap, grad and shard_map.

Each family is a package (`attribution`, `metrics`, `bounds` …), imported when it is first named. What everybody uses has a short name too:
`jxai.fills` is `jxai.removal.fills`, as an attribute and in an import. `_SHORT` lists these.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jxai import adapters, attribution, bounds, concepts, counterfactual, data, dataset, evaluate, metrics, models, plot, sufficiency, testing, uncertainty
    from jxai.adapters import Batched, Linen, LogProbabilities, adapt
    from jxai.batching import device_mesh, each
    from jxai.removal import fills, masks, segments
    from jxai.tracing import taps
    from jxai.training import checkpoint, train
    from jxai.views import ProgressBar

__version__ = "0.1.0"

_SHORT = {
    "checkpoint": "training.checkpoint",
    "fills": "removal.fills",
    "masks": "removal.masks",
    "models.batch_norm": "training.batch_norm",
    "segments": "removal.segments",
    "taps": "tracing.taps",
    "train": "training.train",
}
_FUNCTIONS = {
    "ProgressBar": "views",
    "Batched": "adapters",
    "Linen": "adapters",
    "LogProbabilities": "adapters",
    "adapt": "adapters",
    "device_mesh": "batching",
    "each": "batching",
}

__all__ = [
    "Batched",
    "Linen",
    "LogProbabilities",
    "ProgressBar",
    "adapt",
    "adapters",
    "attribution",
    "bounds",
    "checkpoint",
    "concepts",
    "counterfactual",
    "data",
    "dataset",
    "device_mesh",
    "each",
    "evaluate",
    "fills",
    "masks",
    "metrics",
    "models",
    "plot",
    "segments",
    "sufficiency",
    "taps",
    "testing",
    "train",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        value = getattr(importlib.import_module(f"jxai.{_FUNCTIONS[name]}"), name)
    elif name in __all__:
        value = importlib.import_module(f"jxai.{_SHORT.get(name, name)}")
    else:
        raise AttributeError(f"module 'jxai' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _ShortNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets `from jxai.fills import Mean` and `import jxai.fills` find the one module `jxai.removal.fills`."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        short = fullname.removeprefix("jxai.")
        return importlib.util.spec_from_loader(fullname, self) if short != fullname and short in _SHORT else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"jxai.{_SHORT[spec.name.removeprefix('jxai.')]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given the module its short name's spec; it keeps its own.
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(_ShortNames())
