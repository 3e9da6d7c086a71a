"""A cluster that was found, as a file of configs/cluster."""

from __future__ import annotations

import yaml

from launcher.machine.at_hand import AtHand


def cluster_yaml(found: AtHand) -> str:
    """Ready to be saved: a setting a line, each with where it is from."""
    lines = [f"# What {found.program} says of {found.cluster.name}."]
    for name, source in found.sources.items():
        line = f"{name}: {_flow(getattr(found.cluster, name))}"
        lines.append(f"{line} # {source}" if source else line)
    return "\n".join(lines)


def how_to_save(found: AtHand) -> str:
    """What to do with the file."""
    name = found.cluster.name
    return f"# save it as conf/cluster/{name}.yaml, for --config-dir conf cluster={name}"


def _flow(value: object) -> str:
    said: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return said.removesuffix("...\n").strip()
