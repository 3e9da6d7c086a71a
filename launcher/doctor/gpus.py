"""What the driver and torch say of GPUs, read without either: links, architectures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile

from configs.words import listed

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_GPU = re.compile(r"GPU\d+")


def links_in(topology: str) -> list[str]:
    """The link of each pair of GPUs, such as NV18 or PHB, from the text of `nvidia-smi topo -m`.

    Empty for one GPU, and for a text that is no such table.
    """
    rows = [_COLOUR.sub("", line).split() for line in topology.splitlines()]
    table = [row for row in rows if row and _GPU.fullmatch(row[0])]
    if not table:
        return []
    names = list(takewhile(_GPU.fullmatch, table[0]))
    cells = {row[0]: row[1 : len(names) + 1] for row in table[1:]}
    return [
        cells[name][after]
        for before, name in enumerate(names)
        for after in range(before + 1, len(names))
        if len(cells.get(name, [])) == len(names)
    ]


def links_in_words(links: Sequence[str]) -> str:
    """As "NVLink (NV18) between all pairs", "PCIe (NODE, SYS) between all pairs", or both."""
    nvlinks = [link for link in links if re.fullmatch(r"NV\d+", link)]
    others = [link for link in links if link not in nvlinks]
    if not nvlinks or not others:
        name = "NVLink" if nvlinks else "PCIe"
        return f"{name} ({_kinds(links)}) between {'all pairs' if len(links) > 1 else 'both'}"
    return (
        f"NVLink ({_kinds(nvlinks)}) between {len(nvlinks)} of {len(links)} pairs, "
        f"PCIe ({_kinds(others)}) between the others"
    )


def _kinds(links: Iterable[str]) -> str:
    return listed(sorted(Counter(links)))


def runs_on(capability: tuple[int, int], built_for: Iterable[str]) -> bool:
    """Whether code built for these architectures (`sm_90`, `compute_120`) runs on such a GPU.

    Machine code (sm) runs on its own major version from its minor version on, so does what has an
    f behind it; what has an a (sm_90a) runs on exactly its own. PTX (compute) without a letter is
    compiled anew for any later GPU.
    """
    for name in built_for:
        parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name)
        if parts is None:
            continue
        kind, letter = parts[1], parts[4]
        code = (int(parts[2]), int(parts[3]))
        anew = kind == "compute" and not letter
        fits = code <= capability and (anew or code[0] == capability[0])
        if capability == code or (fits and letter != "a"):
            return True
    return False
