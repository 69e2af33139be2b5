"""What an evaluation runs: methods and metrics by name, with their options completed for a data set."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import attribution, metrics
from jxai.data import Source, load
from jxai.identity.values import described
from jxai.metrics.documented import direction
from jxai.naming import ABSOLUTE, APART
from jxai.removal.segments import XRAI, Segmentation
from jxai.scores import SCORES, SHARES
from jxai.typing import Array

_BASELINES = 8

_BY_GROUPS = (attribution.eva, attribution.feature_ablation, attribution.kernel_shap, attribution.lime, attribution.shapley_sampling)
"""Methods whose maps hold a group's whole value at each of its positions; by default of 8 cells along every axis."""
_GROUPS = ("segments", "grid", "num_segments")
_BY_METHOD = ("score", *_GROUPS)
"""Options of a metric that go by the method whose map it judges, where they are not given."""

Given = Sequence[str] | Mapping[str, Callable | tuple[Callable, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A method or a metric with its options; `fn` is called by `jxai.each`, and made once, so that it compiles once."""

    label: str
    fn: Callable
    options: Mapping[str, Any]
    """Equal for all examples."""
    segmentations: Mapping[str, Segmentation]
    """Options that are label maps of the example's own."""
    source: Callable
    """The public function behind `fn`."""
    of_seed: tuple[str, ...] = ()
    """Options that are keys made of the seed."""

    def per_example(self, x: np.ndarray, mask: np.ndarray | None) -> dict[str, np.ndarray]:
        """The options that differ by example, for a batch."""
        own = {name: np.stack([segment(one) for one in x]) for name, segment in self.segmentations.items()}
        if self.needs_mask:
            own["mask"] = mask
        return own

    @property
    def needs_mask(self) -> bool:
        """Whether it asks where the object is."""
        return "mask" in inspect.signature(self.source).parameters

    def key(self, seed: int) -> Array:
        """Its own stream of random numbers; columns of one name that differ in options share it."""
        return jax.random.fold_in(jax.random.key(seed), zlib.crc32(self.label.partition(APART)[0].encode()))

    def at(self, seed: int) -> Task:
        """The same with the random networks of another seed."""
        return dataclasses.replace(self, options={**self.options, **dict.fromkeys(self.of_seed, jax.random.key(seed))}) if self.of_seed else self

    def describe(self) -> dict[str, Any]:
        """What it computes, for the record of a run."""
        made_of = described(self.source)
        name = made_of if isinstance(made_of, str) else made_of.get("function", made_of.get("type", ""))
        schema = inspect.signature(self.source).parameters.values()
        defaults = {p.name: p.default for p in schema if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        options = {k: described(v) for k, v in sorted({**defaults, **self.options, **self.segmentations}.items())}
        return {"function": name, "options": options, **({} if isinstance(made_of, str) else {"made_of": made_of})}


def methods(given: Given, source: Source, shape: tuple[int, ...], preprocess: Callable | None) -> list[Task]:
    """The tasks of these methods; what a method cannot do without is taken from the data: segments for XRAI, baselines for expected gradients.

    Args:
      given: names (`"sobol"`, `"abs:gradient"`), or labels with a function and, where it has any, options.
      source, preprocess: the data. shape: of x.

    Raises:
      ValueError: an unknown name, a label twice, or an option that the method does not have.
    """
    tasks = []
    for label, fn, options in chosen(given, attribution, "method"):
        options = dict(options)
        schema = _schema(fn, 4)
        _check_options(label, options, schema)
        for name, parameter in schema.items():
            if parameter.default is inspect.Parameter.empty and name not in options:
                options[name] = _required(label, name, source, preprocess)
        fn_, source_ = (_magnitude(fn), fn) if label.startswith(ABSOLUTE) else (fn, fn)
        tasks.append(_task(label, fn_, source_, options, shape))
    return tasks


def judges(given: Given, explainers: Sequence[Task], shape: tuple[int, ...], seed: int) -> dict[str, dict[str, Task]]:
    """The tasks of these metrics, `[metric][method]`: one task for all methods that explain one score, or one for each where the metric explains again.

    A metric measures the score that the method explained, unless its options name another; one that takes ratios keeps to a score in [0, 1].

    Args:
      given: as in `methods`. explainers: the methods. shape: of x. seed: of the random networks of the randomisation metrics.

    Raises:
      ValueError: an unknown name, a label twice, or an option that the metric does not have.
    """
    table = {}
    for label, fn, options in chosen(given, metrics, "metric"):
        schema, options = _schema(fn, 5), dict(options)
        _check_options(label, options, schema)
        for name, parameter in schema.items():
            if parameter.default is inspect.Parameter.empty and name not in options and name not in ("mask", "method"):
                if name != "segments":
                    raise ValueError(f"{label} needs the option {name}")
                options[name] = Segmentation("slic", (60.0,))
        own = ("weights_key",) if "weights_key" in schema and "weights_key" not in options else ()
        options |= dict.fromkeys(own, jax.random.key(seed))  # the same random networks for every example
        own_of = {task.label: options | _same_score(schema, options, task) | _same_groups(fn, options, task, shape) for task in explainers}
        if "method" in schema and "method" not in options:
            table[label] = {task.label: _explaining_again(label, fn, own_of[task.label], task, shape, own) for task in explainers}
            continue
        differ = {name: json.dumps([described(options.get(option)) for option in _BY_METHOD]) for name, options in own_of.items()}
        made = {differ[name]: _task(label, fn, fn, options, shape, own) for name, options in own_of.items()}
        table[label] = {name: made[differ[name]] for name in own_of}
    return table


def judged_by(by: Mapping[str, Task]) -> dict[str, Any]:
    """What a metric computes, for the record of a run: its function and options, its direction, and `on` each method the options that go by the method."""
    found = {name: task.describe() for name, task in by.items()}
    first = next(iter(found.values()))
    options = {option: value for option, value in first["options"].items() if option not in _BY_METHOD}
    on = {name: {"options": {o: v for o, v in one["options"].items() if o in _BY_METHOD}} for name, one in found.items()}
    return {**first, "options": options, "direction": _direction(next(iter(by.values()))), "on": on}


def _direction(task: Task) -> int:
    """1 where higher is better by the metric's docstring, −1 where lower is, 0 where neither, or where it does not say.

    A metric of jxai's that was asked about the least relevant features first judges the other way round.
    """
    fn, options = task.source, dict(task.options)
    while isinstance(fn, functools.partial):  # JAX's Partial is one, too
        fn, options = fn.func, {**fn.keywords, **options}
    try:
        way = direction(fn)
    except (ValueError, AttributeError):  # no line `Direction:`, or an object without a name
        return 0
    turned = {"least": -1, "irrelevant": -1, "random": 0} if getattr(fn, "__module__", "").startswith("jxai.metrics") else {}
    return way * turned.get(options.get("order"), 1) * turned.get(options.get("features"), 1)


def _same_groups(metric: Callable, options: Mapping[str, Any], explainer: Task, shape: tuple[int, ...]) -> dict[str, Any]:
    """The groups of a map by groups, for a metric that counts each once and names none."""
    if metric not in (metrics.completeness_error, metrics.infidelity) or explainer.source not in _BY_GROUPS:
        return {}
    if any(options.get(name) is not None for name in _GROUPS) or options.get("perturbation", "square") != "square":
        return {}
    theirs = {**explainer.options, **explainer.segmentations}
    own = {name: theirs[name] for name in _GROUPS if theirs.get(name) is not None}
    return own or {"grid": tuple(min(8, size) for size in shape[:-1])}


def _same_score(schema: Mapping[str, inspect.Parameter], options: Mapping[str, Any], explainer: Task) -> dict[str, str]:
    """The score of a metric that names none: what the method explained, where the metric can measure it."""
    own = schema.get("score")
    theirs = inspect.signature(explainer.source).parameters.get("score")
    if own is None or "score" in options or theirs is None or own.default not in SCORES:
        return {}
    score = explainer.options.get("score", theirs.default)
    return {"score": score if own.default not in SHARES or score in SHARES else own.default}


def chosen(given: Given, family, kind: str) -> list[tuple[str, Callable, Mapping[str, Any]]]:
    """Labels, functions and options of what is given; ValueError for what is unknown or there twice."""
    if isinstance(given, str):
        raise ValueError(f"{kind}s={given!r} must be a sequence of names or a mapping")
    found = []
    for label in given:
        if not isinstance(label, str):
            raise ValueError(f"{kind}s names {label!r}, which is no text: give names, or labels with functions")
        value = given[label] if isinstance(given, Mapping) else None
        if value is None:
            name = label.removeprefix(ABSOLUTE) if kind == "method" else label
            if name not in family.__all__:
                raise ValueError(f"unknown {kind} {label!r}; known: {', '.join(family.__all__)}")
            value = getattr(family, name)
        fn, options = value if isinstance(value, tuple) else (value, {})
        found.append((label, fn, options))
    if not found:
        raise ValueError(f"{kind}s must name at least one")
    labels = [label for label, *_ in found]
    if len(set(labels)) < len(labels):
        raise ValueError(f"{kind}s names {next(v for v in labels if labels.count(v) > 1)!r} twice")
    return found


def _schema(fn: Callable, positional: int) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(fn).parameters.items())[positional:])


def _check_options(label: str, options: Mapping[str, Any], schema: Mapping[str, inspect.Parameter]) -> None:
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in schema.values()):
        return
    for name in options:
        if name not in schema:
            raise ValueError(f"{label} has no option {name!r}, but {', '.join(schema) or 'none'}")


def _task(label: str, fn: Callable, source: Callable, options: Mapping[str, Any], shape: tuple[int, ...], of_seed: tuple[str, ...] = ()) -> Task:
    own = {k: v for k, v in options.items() if isinstance(v, Segmentation)}
    fixed = {k: v for k, v in options.items() if k not in own}
    if own and fixed.get("num_segments") is None:
        fixed["num_segments"] = max(v.limit(shape[:2]) for v in own.values())
    return Task(label, fn, fixed, own, source, of_seed)


def _magnitude(method: Callable) -> Callable:
    @functools.wraps(method)
    def magnitude(f, x, target, key=None, **options):
        return jnp.abs(method(f, x, target, key, **options))

    return magnitude


def _explaining_again(label: str, metric: Callable, options: Mapping[str, Any], explainer: Task, shape: tuple[int, ...], of_seed: tuple[str, ...]) -> Task:
    """The metric bound to a method; the method's own label maps are per-example options of the pair."""

    def judge(f, x, target, attribution, key=None, method_own=None, **own):
        again = {**explainer.options, **(method_own or {})}
        return metric(f, x, target, attribution, key, method=explainer.fn, method_options=again, **own)

    task = _task(label, judge, metric, options, shape, of_seed)
    return _Pair(label, judge, task.options, task.segmentations, metric, of_seed, explainer=explainer)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair(Task):
    explainer: Task = dataclasses.field(kw_only=True)

    def key(self, seed):
        """The explainer's, so that its sampling error is not taken for a change of the explanation."""
        return self.explainer.key(seed)

    def per_example(self, x, mask):
        own = super().per_example(x, mask)
        if self.explainer.segmentations:
            own["method_own"] = self.explainer.per_example(x, None)
        return own


def _required(label: str, name: str, source: Source, preprocess: Callable | None) -> Any:
    if name == "segments":
        return Segmentation("felzenszwalb", XRAI)
    if name == "baselines":
        count = min(_BASELINES, len(source))
        return load(source, [i * len(source) // count for i in range(count)], None, preprocess).x
    raise ValueError(f"{label} needs the option {name}")
