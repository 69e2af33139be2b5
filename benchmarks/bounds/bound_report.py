"""The results of benchmarks/bounds/bounds.py as Markdown."""

from __future__ import annotations

from benchmarks.measuring.report import pair

COLUMNS = (
    "bound", "images", "batch: ours, peer", "ours s", "peer s", "peer/ours", "0.7.1 s", "GFLOP/s",
    "arithmetic", "over it", "memory traffic", "first call s", "peak MiB", "mean width", "agreement",
)  # fmt: skip
TRAFFIC = 10.0
"""Gigabytes a second: what two cores of a server read and write."""


def markdown(result: dict) -> str:
    lines = [f"{result['cores']} cores, {result['clock']} time, load average {result['load']:.1f} to {result['load_after']:.1f}"]
    for setting, found in result["settings"].items():
        versions = {name: version for fact in found["facts"].values() for name, version in fact["versions"].items()}
        lines += ["", f"**{setting}**: {', '.join(f'{n} {v}' for n, v in versions.items())}; {found['images']}", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in found["rows"]]
    return "\n".join([*lines, "", f"{result['seconds']:.0f} s in all"])


def _cells(row: dict) -> list[str]:
    if "error" in row:
        return [row["name"], row["error"], *[""] * (len(COLUMNS) - 2)]
    libraries = {name: found for name, found in row["libraries"].items() if "seconds" in found}
    ours = libraries.pop("jxai", None)
    if ours is None:
        return [row["name"], row["libraries"]["jxai"]["error"], *[""] * (len(COLUMNS) - 2)]
    failed = [f"{name}: {found['error']}" for name, found in row["libraries"].items() if "error" in found]
    seconds = f"{ours['seconds']:.3g} ({ours['median']:.3g})"
    if row["groups"]:
        seconds += f"; {1e3 * ours['seconds'] / row['groups']:.2g} ms a group"
    floor = row["gflop"] / row["gflops"] if "gflop" in row else None
    return [
        row["name"],
        str(row["images"]),
        ", ".join(str(found["batch"]) for found in (ours, *libraries.values())),
        seconds,
        "; ".join(f"{peer['seconds']:.3g} ({peer['median']:.3g})" for peer in libraries.values()) or "; ".join(failed),
        "; ".join(f"**{peer['seconds'] / ours['seconds']:.1f}**" for peer in libraries.values()),
        "" if row["quoted"] is None else f"{row['quoted']:g}",
        f"{row['gflops']:.0f}",
        "" if floor is None else f"{row['gflop']:.3g} GFLOP, {floor:.3g} s",
        "" if floor is None else f"{ours['seconds'] / floor:.1f}",
        f"{row['gigabytes']:.2g} GB, {row['gigabytes'] / TRAFFIC:.2g} s" if row.get("gigabytes") else "",
        ", ".join(f"{found['first']:.1f}" for found in (ours, *libraries.values())),
        "; ".join(f"{name} {_memory(seen)}" for name, seen in row.get("memory", {}).items()),
        f"{row['width']:.4g}" if "width" in row else "",
        "; ".join(_agreement(found) for found in row.get("agreement", {}).values()),
    ]


def _memory(seen: dict) -> str:
    return pair(seen["peaks"]) + (f" (scratch {pair(seen['scratch'])})" if seen["scratch"] else "")


def _agreement(found: dict) -> str:
    return (
        f"peer's width × {found['width_ratio']:.4f}; {found['looser']:.1%} of the ends looser (by {max(found['loosest'], 0):.1e} at most), "
        f"{found['tighter']:.1%} tighter, apart {found['difference']:.1e}"
    )
