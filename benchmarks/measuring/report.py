"""The benchmark's results as JSON and as a Markdown table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

COLUMNS = (
    "method", "passes", "ours s/image", "best peer", "peer/ours", "over floor", "first call s: cold, warm; peers", "peak MiB at N, 4N", "agreement"
)  # fmt: skip


def write(result: dict, out: Path, render: Callable[[dict], str] | None = None) -> None:
    """Writes `out.json` and `out.md`, each at once: a reader never sees half of one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(result, indent=1)), (".md", (render or markdown)(result))):
        path = out.with_name(out.name + suffix)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text + "\n")
        os.replace(partial, path)


def markdown(result: dict) -> str:
    lines = [*_head(result), "", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in result["rows"]]
    notes = [f"- {row['method']}, {library}: {peer['note']}" for row in result["rows"]
             for library, peer in row.get("peers", {}).items() if peer["note"]]  # fmt: skip
    return "\n".join([*lines, "", *notes, "", f"{result['seconds']:.0f} s in all"])


def _head(result: dict) -> list[str]:
    first, *floors = floors_and_versions(result)
    return [f"{result['cores']} cores, {result['clock']} time; {first}", *floors]


def floors_and_versions(result: dict) -> list[str]:
    """Versions and speed of the processor, then a line for each library: its fastest passes."""
    versions = {}
    for fact in result["facts"].values():
        versions.update(fact["versions"])
    speed = ", ".join(f"{name} {fact['gflops']:.0f}" for name, fact in result["facts"].items() if "gflops" in fact)
    lines = [f"float32 matrix products, GFLOP/s: {speed}; " + ", ".join(f"{n} {v}" for n, v in versions.items())]
    for library, kinds in result["passes"].items():
        best = [f"{kind} {min(times.values()) * 1e3:.3g} (batch {result['best'][library][kind]})" for kind, times in kinds.items()]
        lines.append(f"- {library}: ms for a pass, {', '.join(best)}; logits apart from ours {result['logits_apart'][library]:.1e}")
    return lines


def passes(row: dict) -> str:
    return " + ".join(f"{row[kind]} {letter}" for kind, letter in (("forward", "f"), ("backward", "fb")) if row[kind])


def _cells(row: dict) -> list[str]:
    if "error" in row:
        return [row["method"], row["error"], *[""] * (len(COLUMNS) - 2)]
    peers = {library: peer for library, peer in row["peers"].items() if "seconds" in peer}
    best = min(peers, key=lambda library: peers[library]["seconds"], default=None)
    peaks = [
        f"{library} {pair(seen['peaks'])}" + (f" (scratch {pair(seen['scratch'])})" if seen["scratch"] else "")
        for library, seen in row.get("memory", {}).items()
    ]
    failed = [f"{library}: {peer['error']}" for library, peer in row["peers"].items() if "error" in peer]
    first = [f"{row['first_cold']:.1f}, {row['first_warm']:.1f}", *(f"{library} {peer['first']:.1f}" for library, peer in peers.items())]
    return [
        row["method"],
        passes(row),
        f"{row['seconds']:.3g} (median {row['median']:.3g})",
        f"{best} {peers[best]['seconds']:.3g}" if best else "none",
        "; ".join(f"{library} **{peer['seconds'] / row['seconds']:.2f}**" for library, peer in peers.items()),
        f"{row['over_floor']:.2f}",
        "; ".join(first),
        "; ".join(peaks),
        "; ".join([*(f"{library} {_agreement(peer['agreement'], row)}" for library, peer in peers.items()), *failed]),
    ]


def _agreement(agreement: dict, row: dict) -> str:
    if agreement["match"] == "random":
        return f"random ρ {agreement['rho']:.3f} (ours again {row['agreement_with_itself']['rho']:.3f})"
    return f"ρ {agreement['rho']:.5f}, {agreement['difference']:.1e}"


def pair(sizes: list[float]) -> str:
    return ", ".join(f"{size:.0f}" for size in sizes)
