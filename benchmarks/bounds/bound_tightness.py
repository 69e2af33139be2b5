"""How tight the bounds of every type of layer are: their width over that of the values found, and over that of IBP's.

    python benchmarks/bounds/bound_tightness.py                           # all layers, about 20 minutes on 2 cores
    python benchmarks/bounds/bound_tightness.py --layers "relu,gelu"      # some
    python benchmarks/bounds/bound_tightness.py --picture docs/bound_tightness.png

The layers are those of tests/bounds/bound_layers.py, most of them between two random linear ones. The values found are at 10,000 points of a
region and where gradient descent climbs to, so that their range is, if anything, too narrow. A cell is `Σ width / Σ width of the values (Σ width /
Σ width of IBP)`, sums over the outputs of three random models and regions: 1 on the left is exact, 1 in brackets is no better than IBP.
α-CROWN takes 20 steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "bounds"))
from bound_layers import LAYERS
from bound_points import climbed, points

from jxai.bounds import METHODS

SEEDS = (1, 2, 3)


def widths(name: str, count: int) -> dict[str, float]:
    """By method, and for the values found (`""`), the sum of the widths of all outputs of all seeds."""

    @jax.jit
    def run(seed):
        f, box = LAYERS[name].case(seed)
        values = jax.lax.map(f, points(box, count, jax.random.key(7)), batch_size=1000).reshape(count, -1)
        far = climbed(f, box, 6, jax.random.key(8)).reshape(-1, values.shape[1])
        found = jnp.maximum(values.max(0), far.max(0)) - jnp.minimum(values.min(0), far.min(0))
        ends = {method: bound(f)(box) for method, bound in METHODS.items()}
        return {"": found.sum(), **{method: (b.upper - b.lower).sum() for method, b in ends.items()}}

    return jax.tree.map(lambda *sums: float(sum(sums)), *map(run, SEEDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="", help="names separated by commas; by default all")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--picture", default="", help="where to draw the table as well")
    args = parser.parse_args()
    names = [n.strip() for n in args.layers.split(",")] if args.layers else list(LAYERS)
    unknown = [n for n in names if n not in LAYERS]
    if unknown:
        raise SystemExit(f"--layers: unknown {unknown}; known: {', '.join(LAYERS)}")
    start, table = time.perf_counter(), {}
    print(f"| layer | {' | '.join(METHODS)} |\n|{' --- |' * (1 + len(METHODS))}")
    for name in names:
        found = table[name] = widths(name, args.points)
        cells = [f"{found[m] / found['']:.3g} ({found[m] / found['interval']:.2g})" for m in METHODS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if args.picture:
        draw(table, args.picture)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


def draw(table: dict[str, dict[str, float]], path: str) -> None:
    """One row of points for each layer, ordered by how tight CROWN is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted(table, key=lambda n: table[n]["crown"] / table[n][""])
    half = -(-len(names) // 2)
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.19 * half + 1), layout="constrained", sharex=True)
    for axis, part in zip(axes, (names[:half], names[half:])):
        for method, marker in zip(METHODS, "|^sod"):
            axis.plot([table[n][method] / table[n][""] for n in part], range(len(part)), marker, label=method, markersize=5, alpha=0.8, linestyle="none")
        axis.set(yticks=range(len(part)), yticklabels=part, xscale="log", xlabel="width of the bounds / width of the values found", xlim=(0.9, 100))
        axis.invert_yaxis()
        axis.grid(axis="both", linewidth=0.3)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
