"""What the GPU kit found, as one page that loads nothing and opens from a file."""

from __future__ import annotations

from html import escape
from typing import Any

from tests.cli import ROOT

# The plan's, so that both pages look alike.
STYLE = (ROOT / "parallel" / "planner" / "report" / "page.css").read_text(encoding="utf-8")
OWN_STYLE = """
td { vertical-align: top; } td.what { white-space: normal; min-width: 220px; }
td.passed { color: var(--good); } td.failed, td.running { color: var(--bad); font-weight: 600; }
td.reason { white-space: pre-line; overflow-wrap: anywhere; min-width: 260px; max-width: 520px; }
dd { font-size: 15px; } th.number { min-width: 60px; }
"""
TITLES = {
    "engines": "One GPU: precisions, recompute, engines",
    "attention": "One GPU: banded attention against its mask",
    "runs": "One GPU: training, checkpoints and text, beside the CPU",
    "speed": "One GPU: speed and memory",
    "layouts": "Several GPUs: every layout trains as one rank does",
    "failures": "Several GPUs: ranks that die or hang are named",
    "overlap": "Profile: what waits, and what overlaps",
}
CONDITIONS = (
    *("device", "devices", "memory_gib", "driver", "cuda", "nccl", "torch", "megatron-core"),
    *("deepspeed", "transformer_engine", "flash_attn", "triton", "python", "commit", "date"),
)


def page(found: dict[str, Any]) -> str:
    """The page of what Kit.write writes as JSON."""
    counts = found["counts"]
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    bad = counts["failed"] or counts["running"] or counts["not run"]
    what = "Rehearsal on a CPU: proves nothing of a GPU" if found["rehearsal"] else "GPU kit"
    told = "".join(
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{_text(found[name])}</dd></div>"
        for name in CONDITIONS
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Phalanx: {escape(what)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}{OWN_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(what)}</h1>
<p>{escape(str(found["device"]))}, {found["seconds"]:.0f} s</p>
<p id="verdict" class="{"bad" if bad else ""}" role="status">{escape(said)}</p>
<dl>{told}</dl>
</header>
<main>
{"".join(_group(name, found) for name in found["groups"])}
</main>
</body>
</html>
"""


def _group(name: str, found: dict[str, Any]) -> str:
    group = found["groups"][name]
    checks = [check for check in found["checks"] if check["group"] == name]
    return f"""<section>
<h2>{escape(TITLES[name])}</h2>
<p>{group["seconds"]:.0f} s of the {group["budget_s"]} s that it may take on GPUs</p>
<div class="scroll" tabindex="0" role="region" aria-label="{escape(TITLES[name])}"><table>
<thead><tr><th>check</th><th>status</th><th class="number">s</th><th>measured</th>
<th class="number">value</th><th class="number">allowed</th></tr></thead>
<tbody>{"".join(map(_rows, checks))}</tbody>
</table></div>
</section>
"""


def _rows(check: dict[str, Any]) -> str:
    """A row for each number of a check; its name and its end stand in the first."""
    rows = [
        f"<td>{escape(row['what'])}</td><td class='number'>{_text(row['value'])}</td>"
        f"<td class='number'>{_text(row['allowed'])}</td>"
        for row in check["numbers"]
    ]
    if check["reason"]:
        rows.append(f"<td class='reason' colspan='3'>{escape(check['reason'])}</td>")
    rows = rows or ["<td colspan='3'></td>"]
    head = (
        f"<td class='what' rowspan='{len(rows)}'>{escape(check['name'])}</td>"
        f"<td class='{check['status'].replace(' ', '-')}' rowspan='{len(rows)}'>"
        f"{escape(check['status'])}</td>"
        f"<td class='number' rowspan='{len(rows)}'>{check['seconds']:.1f}</td>"
    )
    return "".join(f"<tr>{head if not place else ''}{row}</tr>" for place, row in enumerate(rows))


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))
