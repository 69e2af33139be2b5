"""PyTorch modules, through torchax: they are run with arrays of JAX in the place of tensors, so that JAX sees every operation."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.adapters.recognition import Call, Native, exactly
from jxai.adapters.torchax import torchax
from jxai.adapters.wrappers import told
from jxai.typing import Array, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Torch:
    """A PyTorch module in evaluation mode, of its tensors as JAX arrays: `x [B, C, …] -> out`.

    Attributes:
      program: the module as a function `(values, args, kwargs) -> out` (static; equal to itself alone).
      values: its parameters and buffers, by name.

    Raises, when called:
      ValueError: the module uses an operation that torchax has not for JAX, or decides by values, which a trace does not know.
    """

    program: Program = dataclasses.field(metadata={"static": True})
    values: dict[str, Array]

    def __call__(self, *inputs: PyTree, **named: Any) -> Any:
        import torch

        bridge = torchax()
        inputs, named = jax.tree.map(lambda v: jnp.asarray(v) if isinstance(v, np.ndarray) else v, (inputs, named))
        try:
            # The device is that of tensors which the module makes itself; the key stays within, as what is drawn by it is refused.
            with torch.device("jax:0"), bridge.default_env().override_property(prng=jax.random.key(0)):
                return self.program.run(self.values, inputs, named)
        except bridge.tensor.OperatorNotFound as error:
            raise ValueError(f"the module uses an operation that torchax, the bridge from PyTorch to JAX, does not know: {error}") from error
        except jax.errors.ConcretizationTypeError as error:
            raise ValueError("the module decides by values of its input, which a trace does not know: such a branch has no derivative either") from error

    def __described__(self) -> dict[str, Any]:
        module = self.program.module
        classes = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in map(type, module.modules())}
        return {"made_of": repr(module).encode(), "classes": classes, "values": self.values}


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A module and what torchax makes of it."""

    module: Any
    run: Callable[..., Any]


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """A module in evaluation mode: it wants a batch, with the channels first. What torchax makes of it is held to what PyTorch computes.

    The module stays as it is: what is traced is a copy, which shares its tensors until they are copied to JAX.

    Raises:
      ValueError: the module is in training mode.
      ImportError: torchax is missing, or does not load with this PyTorch.
    """
    import torch

    exactly(weights, "a PyTorch module holds its weights, adapt(module)", 0)
    call.refuse("a PyTorch module", "rngs", "mutable")
    training = [name or type(module).__name__ for name, module in model.named_modules() if module.training]
    if training:
        listed = ", ".join(training[:4]) + (", …" if len(training) > 4 else "")
        raise ValueError(
            f"model={type(model).__name__} is in training mode ({listed}), in which dropout draws and batch normalisation counts: call model.eval()"
        )
    bridge = torchax()
    own = _copied(torch, model)
    values, run = bridge.extract_jax(own)

    def reference(*inputs: PyTree, **named: Any) -> Any:
        where = next((t.device for t in model.parameters()), None)
        as_tensor = lambda v: _tensor(torch, v).to(where) if hasattr(v, "shape") else v
        with torch.no_grad(), _kept(torch, model):
            out = model(*jax.tree.map(as_tensor, inputs), **jax.tree.map(as_tensor, named))
        return torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda t: jnp.asarray(t.float().cpu().numpy() if t.is_floating_point() else t.cpu().numpy()), out
        )

    options = call.options(None)
    return Native(told(Torch(Program(own, run), values), options), batched=True, channels="first", reference=told(reference, options))


def _tensor(torch: Any, v: Array) -> Any:
    if v.dtype == jnp.bfloat16:  # which NumPy does not know
        return torch.tensor(np.asarray(v, np.float32)).to(torch.bfloat16)
    return torch.tensor(np.asarray(v))


@contextlib.contextmanager
def _kept(torch: Any, model: Any) -> Iterator[None]:
    """A module whose buffers are in the end what they were, where it counts its calls."""
    before = [(module, name, held, held.clone()) for module in model.modules() for name, held in module.named_buffers(recurse=False)]
    try:
        yield
    finally:
        for module, name, held, values in before:
            if getattr(module, name) is not held:
                setattr(module, name, held)
            if not torch.equal(held, values):
                held.copy_(values)


def _copied(torch: Any, model: Any) -> Any:
    """A copy that shares its tensors with the module. What is computed from others, as by weight norm and spectral norm, is held as it is now."""
    held = [t for module in model.modules() for t in vars(module).values() if isinstance(t, torch.Tensor)]
    own = copy.deepcopy(model, {id(t): t for t in (*held, *model.parameters(), *model.buffers())})
    for module in list(own.modules()):
        if torch.nn.utils.parametrize.is_parametrized(module):
            computed = {name: getattr(module, name).detach() for name in module.parametrizations}
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]  # the class without them, of this copy alone
            for name, value in computed.items():
                setattr(module, name, torch.nn.Parameter(value))
    return own
