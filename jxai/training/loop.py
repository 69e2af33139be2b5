"""The host's side of a training: which examples come when, validation, checkpoints, and when it ends."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.identity.compare import differences
from jxai.identity.programs import program
from jxai.identity.values import digest, summed
from jxai.identity.versions import versions
from jxai.training import checkpoint as checkpoints
from jxai.training import updates
from jxai.training.updates import Form, Part
from jxai.typing import Array, PyTree
from jxai.views.progress import Progress

OUTCOMES = ("finished", "patience", "diverged")


class Trained(NamedTuple):
    """A model and how it came about."""

    model: Any
    """After the last step; with validation, where its loss was least."""
    history: dict[str, np.ndarray]
    """`[steps]` of each number; with validation, `validation/loss` and the steps after which it was taken, `validation/step`."""
    steps: int
    outcome: str
    """"finished"; "patience", when validation had not improved for so long; "diverged", when a loss or weight was not finite: then the model is that
    of the block before."""


class State(NamedTuple):
    """All that a training needs to go on."""

    weights: dict[str, Array]
    optimizers: tuple[PyTree, ...]
    best: dict[str, Array]
    least: np.ndarray
    """`[S]`: the least validation loss."""
    since: np.ndarray
    """`[S]`: validations since then."""
    ended: np.ndarray
    """`[S]`: 0 while it runs, else a place in OUTCOMES."""
    steps: np.ndarray
    """`[S]`."""
    history: dict[str, np.ndarray]
    """`[S, steps]`."""
    validation: np.ndarray
    """`[1 + S, validations]`: the steps after which they were, and their losses."""


class Loop:
    """A training of one model, or of S models along a leading axis."""

    def __init__(self, parts: tuple[Part, ...], form: Form, fixed: list[Array], x, y, key: Array, total, every, batch_size, block, seeds, patience, validation):
        self.parts, self.form, self.fixed, self.total, self.every, self.block = parts, form, fixed, total, every, block
        self.seeds, self.patience, self.validation, self.batch_size = seeds, patience, validation, batch_size
        self.size = len(key) if seeds else 1
        split = jax.vmap(jax.random.split, out_axes=1)(key) if seeds else jax.random.split(key)
        self.order, self.noise = split[0], split[1]
        self.updates, self.batches = sum(part.steps for part in parts), updates.batches(parts)
        self.x, self.y = jnp.asarray(x), None if y is None else jnp.asarray(y)
        self.epoch: tuple[int, np.ndarray] | None = None
        self.static = {"form": form, "seeds": seeds}
        ends = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
        given = lambda *arrays: digest(*(a for a in arrays if a is not None))[:16]
        self.identity = {"data": given(x, y), "validation": given(*validation or ()), "batch_size": batch_size, "every": every, "patience": patience}
        self.identity |= {"key": np.asarray(ends).tolist(), "updates": [part.steps for part in parts]}

    def run(self, weights: dict[str, Array], folder: str | os.PathLike | None, on_progress: Callable | None) -> list[Trained]:
        if folder is not None:
            self.identity |= self._made_of(weights)
        state, begin = self._restored(self._start(weights), folder), time.monotonic()
        step = first = int(state.steps.max())
        while step < self.total and (state.ended == 0).any():
            count = min(self.block, self.every - step % self.every, self.total - step)
            state, step = self._advance(state, step, count), step + count
            if step % self.every == 0 or step == self.total:
                state = self._validate(state, step)
                if folder is not None:
                    checkpoints.save(folder, step, state, extra={**self.identity, "validations": state.validation.shape[1]})
            if on_progress is not None:
                last = {name: float(values[state.steps == step, -1].mean()) for name, values in state.history.items()}
                words = ", ".join(f"{name} {value:.4g}" for name, value in last.items())
                on_progress(Progress(step, self.total, step - first, time.monotonic() - begin, words, "steps", last))
        return [self._trained(state, s) for s in range(self.size)]

    def _made_of(self, weights: dict[str, Array]) -> dict[str, Any]:
        """What a training depends on beside data and key: what it begins with, and all code and numbers of the model, the losses and the optimisers."""
        arrays, fixed = jax.tree.map(lambda leaf: leaf[0], (weights, self.fixed)) if self.seeds else (weights, self.fixed)
        found = {name: [summed(getattr(part, name), 4) for part in self.parts] for name in ("loss", "optimizer")}
        self._rows(0)
        begin = jax.vmap(self._optimizers) if self.seeds else self._optimizers
        return {
            "initialisation": digest(*weights.values(), *self.fixed)[:16],
            "model": summed(self.form.model(arrays, fixed), 3)["made_of"],
            **found,
            "parts": [[part.name, *part.trains, *(["again"] if part.again else [])] for part in self.parts],
            "program": program(lambda w: self._step(w, begin(w), 0), weights)[0],
            "versions": {name: version for name, version in versions("flax", "optax").items() if name != "device"},
        }

    def _start(self, weights: dict[str, Array]) -> State:
        begin = jax.vmap(self._optimizers) if self.seeds else self._optimizers
        of = lambda value, dtype: np.full(self.size, value, dtype)
        self._rows(0)  # outside the trace
        numbers = jax.eval_shape(lambda w: self._step(w, begin(w), 0)[2], weights)
        history = {name: np.zeros((self.size, 0), np.float32) for name in numbers}
        empty = np.zeros((1 + self.size, 0), np.float32)
        best = {} if self.validation is None else weights
        return State(weights, begin(weights), best, of(np.inf, np.float32), of(0, np.int32), of(0, np.int32), of(0, np.int32), history, empty)

    def _optimizers(self, weights: dict[str, Array]) -> tuple[PyTree, ...]:
        return tuple(part.optimizer.init(updates.trained_by(part, weights)) for part in self.parts)

    def _step(self, weights: dict[str, Array], optimizers: tuple[PyTree, ...], step: int) -> tuple[dict[str, Array], tuple, dict[str, Array]]:
        """The updates of all parts, one part after the other; the numbers are means over a part's updates."""
        rows, states, numbers, done, seen = self._rows(step), [], {}, 0, 0
        for part, state in zip(self.parts, optimizers, strict=True):
            values, first = [], seen - part.steps if part.again else seen
            seen = first + part.steps
            for batch in range(first, seen):
                more = (self.fixed, self.x, self.y, rows[..., batch, :], self.noise, step * self.updates + done)
                weights, state, value = updates.update(weights, state, *more, part=part, **self.static)
                values.append(value)
                done += 1
            states.append(state)
            prefix = f"{part.name}/" if part.name else ""
            numbers |= {prefix + name: sum(v[name] for v in values) / len(values) if len(values) > 1 else values[0][name] for name in values[0]}
        return weights, tuple(states), numbers

    def _restored(self, state: State, folder: str | os.PathLike | None) -> State:
        if folder is None:
            return state

        def like(step: int, extra: dict | None) -> State:
            extra = extra or {}
            here = json.loads(json.dumps(self.identity))
            if found := differences({name: extra.get(name) for name in here}, here):
                parts = dict.fromkeys(re.split(r"[.:\[ ]", one, maxsplit=1)[0] for one in found)
                raise ValueError(
                    f"checkpoint={os.fspath(folder)!r} belongs to a training with other {', '.join(parts)} ({found[0]}); name another folder or remove it"
                )
            history = {name: np.zeros((self.size, step), np.float32) for name in state.history}
            return state._replace(history=history, validation=np.zeros((1 + self.size, extra["validations"]), np.float32))

        found = checkpoints.restore(folder, like)
        if found is None:
            return state
        return jax.tree.map(lambda new, old: jnp.asarray(new) if isinstance(old, jax.Array) else new, found.tree, state)

    def _advance(self, state: State, step: int, count: int) -> State:
        weights, optimizers, numbers = state.weights, state.optimizers, []
        for i in range(count):
            weights, optimizers, values = self._step(weights, optimizers, step + i)
            numbers.append(values)
        fine, running = np.reshape(updates.finite(weights, seeds=self.seeds), -1), state.ended == 0
        history = {}
        for name, values in state.history.items():
            new = np.stack([np.reshape(one[name], -1) for one in numbers], 1)
            fine = fine & (np.isfinite(new).all(1) | (name.split("/")[-1] != "loss"))
            history[name] = np.concatenate([values, np.where(running[:, None], new, np.nan).astype(np.float32)], 1)
        weights, optimizers = self._where(running & fine, (weights, optimizers), (state.weights, state.optimizers))
        ended = np.where(running & ~fine, OUTCOMES.index("diverged"), state.ended).astype(np.int32)
        return state._replace(weights=weights, optimizers=optimizers, history=history, ended=ended, steps=(state.steps + count * running).astype(np.int32))

    def _rows(self, step: int) -> np.ndarray:
        """Which examples a step takes, `[S, batches, B]` or `[batches, B]`."""
        need = self.batches * self.batch_size
        epoch, place = divmod(step, len(self.x) // need)
        if self.epoch is None or self.epoch[0] != epoch:
            self.epoch = epoch, np.asarray(updates.permutation(self.order, epoch, size=len(self.x), seeds=self.seeds))
        return self.epoch[1][..., place * need : (place + 1) * need].reshape(*self.epoch[1].shape[:-1], self.batches, self.batch_size)

    def _validate(self, state: State, step: int) -> State:
        if self.validation is None:
            return state
        x, y = self.validation
        total = np.zeros(self.size)
        for start in range(0, len(x), self.batch_size):
            batch = slice(start, start + self.batch_size)
            value = updates.loss(state.weights, self.fixed, x[batch], None if y is None else y[batch], self.noise, start, part=self.parts[0], **self.static)
            total += np.reshape(value, -1) * len(x[batch]) / len(x)
        values = np.where(state.ended == 0, total, np.nan).astype(np.float32)
        better = values < state.least
        since = np.where(better, 0, state.since + (state.ended == 0)).astype(np.int32)
        stops = (state.ended == 0) & (since >= (np.inf if self.patience is None else self.patience))
        return state._replace(
            best=self._where(better, state.weights, state.best),
            least=np.where(better, values, state.least),
            since=since,
            ended=np.where(stops, OUTCOMES.index("patience"), state.ended).astype(np.int32),
            validation=np.concatenate([state.validation, np.asarray([step, *values], np.float32)[:, None]], 1),
        )

    def _where(self, chosen: np.ndarray, new: PyTree, old: PyTree) -> PyTree:
        """`new` for the seeds that are chosen, `old` for the others."""
        if chosen.all() or not chosen.any():
            return new if chosen.all() else old
        return jax.tree.map(lambda a, b: jnp.where(jnp.asarray(chosen).reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old)

    def _trained(self, state: State, s: int) -> Trained:
        weights = state.best if self.validation is not None and np.isfinite(state.least[s]) else state.weights
        weights, fixed = jax.tree.map(lambda leaf: leaf[s], (weights, self.fixed)) if self.seeds else (weights, self.fixed)
        made = int(state.steps[s])
        history = {name: values[s, :made] for name, values in state.history.items()}
        if self.validation is not None:
            at = state.validation[0].astype(int)
            history |= {"validation/loss": state.validation[1 + s, at <= made], "validation/step": at[at <= made]}
        return Trained(self.form.model(weights, fixed), history, made, OUTCOMES[state.ended[s]])
