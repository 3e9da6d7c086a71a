"""What the GPU kit found, as one page that loads nothing and opens from a file."""

from __future__ import annotations

from html import escape
from typing import Any

from tests.cli import ROOT

# The plan's, so that both pages look alike.
STYLE = (ROOT / "parallel" / "planner" / "report" / "page.css").read_text(encoding="utf-8")
OWN_STYLE = """
td { vertical-align: top; } td.what, td.told { white-space: normal; min-width: 200px; }
td.passed { color: var(--good); } td.failed, td.running { color: var(--bad); font-weight: 600; }
p.reason { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 620px; }
tr:has(+ tr.more) > td { border-bottom: 0; } tr.more > td { padding-top: 0; }
details { margin: 0; } dd { font-size: 15px; } th.number { min-width: 60px; } a { color: inherit; }
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
MOST_WORDS = 4000  # characters of a reason; all of it is in the JSON
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
<div class="scroll" tabindex="0" role="region" aria-label="overview">{_overview(found)}</div>
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
<h2 id="{name}">{escape(TITLES[name])}</h2>
<p>{group["seconds"]:.0f} s of the {group["budget_s"]} s that it may take on GPUs</p>
<div class="scroll" tabindex="0" role="region" aria-label="{escape(TITLES[name])}"><table>
<thead><tr><th>check</th><th>status</th><th class="number">s</th><th>nearest to its limit</th>
<th class="number">value</th><th class="number">allowed</th></tr></thead>
<tbody>{"".join(map(_row, checks))}</tbody>
</table></div>
</section>
"""


def _row(check: dict[str, Any]) -> str:
    """The number that is nearest to its limit, the others behind a fold; or why there is none."""
    numbers = check["numbers"]
    nearest = max(numbers, key=_nearness, default=None)
    shown = _cells(nearest) if nearest else "<td></td><td></td><td></td>"
    more = ""
    if check["reason"]:
        more += f"<p class='reason'>{escape(check['reason'][:MOST_WORDS])}</p>"
    if len(numbers) > 1:
        opened = " open" if check["status"] == "failed" else ""
        rows = "".join(f"<tr>{_cells(number)}</tr>" for number in numbers)
        more += (
            f"<details{opened}><summary>all {len(numbers)} numbers</summary>"
            f"<table><tbody>{rows}</tbody></table></details>"
        )
    head = (
        f"<td class='what'>{escape(check['name'])}</td>"
        f"<td class='{check['status'].replace(' ', '-')}'>{escape(check['status'])}</td>"
        f"<td class='number'>{check['seconds']:.1f}</td>"
    )
    below = (
        f"<tr class='more'><td colspan='3'></td><td colspan='3'>{more}</td></tr>" if more else ""
    )
    return f"<tr>{head}{shown}</tr>{below}"


def _nearness(number: dict[str, Any]) -> float:
    """The share of what is allowed; a number that is none is beyond all others."""
    value, allowed = number["value"], number["allowed"]
    if allowed is None:
        return -1.0
    if not isinstance(value, float):
        return float("inf")
    return value / allowed if allowed else value


def _cells(number: dict[str, Any]) -> str:
    return (
        f"<td class='told'>{escape(number['what'])}</td>"
        f"<td class='number'>{_text(number['value'])}</td>"
        f"<td class='number'>{_text(number['allowed'])}</td>"
    )


def _overview(found: dict[str, Any]) -> str:
    """A row for each group."""
    rows = ""
    for name, group in found["groups"].items():
        statuses = [check["status"] for check in found["checks"] if check["group"] == name]
        counts = "".join(
            f"<td class='number{' failed' if status == 'failed' and status in statuses else ''}'>"
            f"{statuses.count(status) or ''}</td>"
            for status in ("passed", "failed", "skipped")
        )
        rows += (
            f"<tr><td><a href='#{name}'>{escape(TITLES[name])}</a></td>{counts}"
            f"<td class='number'>{group['seconds']:.0f}</td></tr>"
        )
    heads = "".join(f"<th class='number'>{it}</th>" for it in ("passed", "failed", "skipped", "s"))
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else escape(str(value))
