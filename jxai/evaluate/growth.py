"""How a run grows: each method and each metric has an identity of its own, and so has each part of the examples; what is there stays, what is new is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jxai.data import Source
from jxai.data.sampling import sampled
from jxai.evaluate import columns
from jxai.evaluate.store import MAY_DIFFER, Config
from jxai.identity.compare import differences
from jxai.identity.values import digest

KINDS = ("methods", "metrics")


class Places:
    """The places in a data set that a call asks for, and those of the parts in which a run took them in.

    Args:
      source: the data set. limit, sample, shuffle, seed: as in `run`.
    """

    def __init__(self, source: Source, limit: int | None, sample: str, shuffle: bool, seed: int):
        self.source, self.seed = source, seed
        count, size = len(sampled(source, limit, sample, seed)), len(source)
        self.asked = {"limit": count, "sample": sample if count < size else "all", "shuffle": shuffle}
        self.chosen = self._places(self.asked)

    def first(self) -> dict[str, Any]:
        """What a new run's record says of them."""
        return self._added({"examples": 0, "parts": [], "content": []}, self.chosen)

    def parts(self, config: Mapping[str, Any]) -> list[np.ndarray]:
        """The places of each part of a run, in the order in which they were taken in: every part without those of earlier ones."""
        found: list[np.ndarray] = []
        for part in config["data"]["parts"]:
            places = self._places(part)
            found.append(places[~np.isin(places, np.concatenate([*found, np.zeros(0, int)]))])
        return found

    def grown(self, there: Config, here: Config) -> tuple[Config, Config, Config]:
        """Of the record there and the configuration here: what of both must be equal, and what the record becomes.

        Must be equal: all that is of the whole run, each method and metric that both name, and the content of what the run took in. A run takes more
        examples later, never fewer.
        """
        if any(kind not in there for kind in KINDS):
            return there, here, there
        a, b = _named_by_both(there, here), _named_by_both(here, there)
        a["data"], b["data"] = ({k: v for k, v in config["data"].items() if k not in ("parts", "content", "examples")} for config in (there, here))
        if differences(a, b, but=MAY_DIFFER):
            return a, b, there
        parts = self.parts(there)
        known = np.concatenate(parts)
        a["data"]["content"], b["data"]["content"] = there["data"]["content"], [told for part in parts for told in self._content(part)]
        missing = known[~np.isin(known, self.chosen)]
        if len(missing):
            for config, places, last in ((a, known, there["data"]["parts"][-1]), (b, self.chosen, self.asked)):
                config["data"] = {"examples": len(places), "sample": last["sample"], "places": digest(np.sort(places)), **config["data"]}
        new = self.chosen[~np.isin(self.chosen, known)]
        later = {**there, "data": self._added(there["data"], new), **{kind: _joined(there[kind], here[kind]) for kind in KINDS}}
        columns.refuse_alike(later)
        _refuse_again(there, here)
        return a, b, later

    def _places(self, part: Mapping[str, Any]) -> np.ndarray:
        places = sampled(self.source, part["limit"], part["sample"], self.seed) if part["sample"] != "all" else np.arange(len(self.source))
        return np.random.default_rng(self.seed).permutation(places) if part["shuffle"] else places

    def _added(self, data: Mapping[str, Any], new: np.ndarray) -> dict[str, Any]:
        if not len(new):
            return dict(data)
        added = {"examples": data["examples"] + len(new), "parts": [*data["parts"], self.asked], "content": [*data["content"], *self._content(new)]}
        return {**data, **added}

    def _content(self, places: np.ndarray) -> list[str]:
        """A digest of what is at these places, of a source that has one; of another its name has to say it."""
        return [of(places)] if callable(of := getattr(self.source, "digest", None)) else []


def blocks(parts: Sequence[np.ndarray], size: int) -> list[np.ndarray]:
    """The places of each block: every part by itself is cut into blocks, so that a later part changes none of an earlier one's."""
    return [part[start : start + size] for part in parts for start in range(0, len(part), size)]


def _named_by_both(config: Config, other: Config) -> Config:
    """The configuration without the methods and metrics that the other one does not name, and without what of them may be added to."""
    made = dict(config)
    for kind in KINDS:
        made[kind] = {label: {k: v for k, v in one.items() if k not in ("seeds", "on")} for label, one in config[kind].items() if label in other[kind]}
    for label, one in made["metrics"].items():
        on = {name: how["options"] for name, how in config["metrics"][label]["on"].items() if name in other["metrics"][label]["on"]}
        one |= {"on": on} if on else {}
    return made


def _refuse_again(there: Config, here: Config) -> None:
    """ValueError for a method or metric that the run has under another label: it would be computed twice, and count as two in tests."""
    for kind in KINDS:
        for label in here[kind].keys() - there[kind].keys():
            for known in there[kind].keys() - here[kind].keys():
                if _of_one_thing(there[kind][known], here[kind][label]):
                    raise ValueError(f"{kind[:-1]} {label!r} is what the run has as {known!r}: ask for it by that label, and it is not computed again")


def _of_one_thing(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two descriptions of methods, or of metrics on the methods that both are on, are equal but for seeds."""
    on = [one.get("on", {}) for one in (a, b)]
    both = on[0].keys() & on[1].keys()
    alike = [({k: v for k, v in one.items() if k not in ("seeds", "on")}, {m: own[m]["options"] for m in sorted(both)}) for one, own in zip((a, b), on)]
    return alike[0] == alike[1] and (bool(both) or not any(on))


def _joined(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """What is there and what is new; in the order of here where that names all."""
    labels = list(here) if set(here) >= set(there) and set(here) != set(there) else [*there, *(label for label in here if label not in there)]
    return {label: _more(there.get(label), here.get(label)) for label in labels}


def _more(there: Any, here: Any) -> Any:
    if there is None or here is None:
        return there or here
    made = {**there, "seeds": [*there["seeds"], *(s for s in here["seeds"] if s not in there["seeds"])]} if "seeds" in there else dict(there)
    if "on" in there:
        made["on"] = _joined(there["on"], here["on"])
    return made
