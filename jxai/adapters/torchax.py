"""torchax, where it and PyTorch have grown apart, too.

torchax 0.0.13 names operations by name that later versions of PyTorch dropped (those of named tensors left with 2.13, `cholesky` with 2.14), and
registers a decomposition that PyTorch has got since, so that it does not load there. What it names and PyTorch lacks is declared here before it is loaded,
without an implementation, which nothing calls; what it registers twice is PyTorch's again after. What comes out is held to PyTorch's own numbers by `adapt`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

INSTALL = 'pip install "jxai[torch]"'
_NAMED = re.compile(r"torch\.ops\.aten\.(\w+)(?:\.(\w+))?")
_REGISTERED = re.compile(r"@register_decomposition\(aten\.(\w+)\)")
_KEPT: list[Any] = []  # a declaration is gone with its library


@functools.cache
def torchax() -> ModuleType:
    """The module torchax.

    Raises:
      ImportError: it is not installed, or does not load with this PyTorch.
    """
    spec = importlib.util.find_spec("torchax")
    if spec is None or spec.origin is None:
        raise ImportError(f"PyTorch modules become JAX functions by torchax, which is not installed: {INSTALL}")
    import torch

    source = "\n".join(file.read_text("utf-8") for file in sorted(Path(spec.origin).parent.rglob("*.py")))
    _declare(torch, sorted(set(_NAMED.findall(source))))
    table = torch._decomp.decomposition_table
    twice = {op for name in _REGISTERED.findall(source) for op in _overloads(torch, name) if op in table}
    kept = {op: table.pop(op) for op in twice}
    try:
        return importlib.import_module("torchax")
    except Exception as error:
        said = f"torchax does not load with PyTorch {torch.__version__} ({type(error).__name__}: {error})"
        raise ImportError(f"{said}: it is known to load with 2.12 to 2.14") from error
    finally:
        table.update(kept)


def _declare(torch: Any, names: list[tuple[str, str]]) -> None:
    """Declares those operations, and overloads of operations, that PyTorch lacks."""
    library = torch.library.Library("aten", "FRAGMENT")
    _KEPT.append(library)
    for name, overload in names:
        packet = getattr(torch.ops.aten, name, None)
        if packet is None or (overload and not hasattr(packet, overload)):
            library.define(f"{name}{'.' + overload if overload not in ('', 'default') else ''}(Tensor self) -> Tensor")


def _overloads(torch: Any, name: str) -> list[Any]:
    packet = getattr(torch.ops.aten, name, None)
    return [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []
