"""The results of benchmarks/metrics/metrics.py as Markdown: a table for each setting, then the notes."""

from __future__ import annotations

from benchmarks.measuring.report import floors_and_versions, pair, passes

COLUMNS = (
    "metric", "passes", "ours s", "peers s", "peer/ours", "over floor", "first call s", "peak MiB at N, 4N", "agreement"
)  # fmt: skip


def markdown(result: dict) -> str:
    lines = [f"{result['cores']} cores, {result['clock']} time; load {result['load']:.1f} before, {result.get('load_after', 0):.1f} after"]
    for setting, found in result["settings"].items():
        lines += ["", f"## {setting}, {found['images']} images", "", *floors_and_versions(found)]
        lines += ["", f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in found["rows"]]
        lines += ["", *_notes(found["rows"])]
    return "\n".join([*lines, "", f"{result.get('seconds', 0):.0f} s in all"])


def _cells(row: dict) -> list[str]:
    if "error" in row:
        return [row["metric"], row["error"], *[""] * (len(COLUMNS) - 2)]
    peers = {label: peer for label, peer in row["peers"].items() if "seconds" in peer}
    return [
        row["metric"] + (f" ({row['images']} images)" if row["metric"] in ("parameter_randomization", "non_sensitivity") else ""),
        passes(row),
        f"{row['seconds']:.3g} (median {row['median']:.3g})",
        "; ".join(f"{label} {peer['seconds']:.3g}" + (f" ({peer['passes']} passes)" if peer["passes"] else "") for label, peer in peers.items()),
        "; ".join(f"{label} **{peer['seconds'] / row['seconds']:.3g}**" for label, peer in peers.items()),
        f"{row['over_floor']:.2f}" if row["over_floor"] else "",
        "; ".join([f"{row['first_cold']:.2f}", *(f"{label} {peer['first']:.2f}" for label, peer in peers.items())]),
        "; ".join(f"{label} {pair(peaks)}" for label, peaks in row.get("memory", {}).items()),
        "; ".join(f"{label} {_agreement(peer['agreement'])}" for label, peer in peers.items()),
    ]


def _agreement(agreement: dict | None) -> str:
    if agreement is None:
        return "other quantity"
    if "error" in agreement:
        return agreement["error"]
    rho = "" if agreement["rho"] is None else f"ρ {agreement['rho']:.4f}, "
    if agreement["match"] == "same":
        return f"{rho}{agreement['difference']:.0e}"
    again = f"(ours again {agreement['again']:.3f}) " if agreement.get("again") is not None else ""
    ours, theirs = agreement["means"]
    return f"{agreement['match']} {rho}{again}means {ours:.3g}, {theirs:.3g}"


def _notes(rows: list[dict]) -> list[str]:
    notes = []
    for row in rows:
        for label, peer in row.get("peers", {}).items():
            text = "; ".join(filter(None, [peer["note"], f"raises {peer['error']}" if "error" in peer else ""]))
            notes += [f"- {row['metric']}, {label}: {text}"] if text else []
    return notes
