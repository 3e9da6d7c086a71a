"""The reference of all settings, docs/reference/settings.md, from the schema and the config files.

`python -m launcher.command_line.reference` writes it. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import hydra
from omegaconf import OmegaConf

from configs.describe import CHOSEN_ALONE, FOLDER, NAME, Setting, choices, groups, settings
from configs.schema import Run
from launcher.command_line.help import typed
from launcher.command_line.own_configs import read_yaml

PATH = Path("docs/reference/settings.md")
COMMAND = "make reference"
EVERY_TASK = FOLDER / "task" / "parts" / "base.yaml"

INTRODUCTION = f"""\
# Settings

Written by `{COMMAND}` from `configs/`; edit the comments of `configs/schema.py` and
`configs/settings/` instead.

A setting is typed as `group.key=value`, and a file of a group is chosen as `group=file`:
`phalanx train layout=tp2 layout.micro_batch=2`. `phalanx help NAME` says the same as this page in a
terminal. In a name, `{NAME}` stands for a name that you give; a setting that the files do not have
yet is added with `+` before it, as in `+contamination.benchmarks.boolq.path=FILE`.

Defaults are those of the files that a run begins with. A default such as `${{model.recipe.tokens}}`
follows another setting, whatever that is set to. A dash means that there is none: whoever gives the
name has to say it.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    sections = list(_sections())
    rows = [f"| [{title}](#{title.replace(' ', '-')}) | {about} |" for title, about, _ in sections]
    contents = ["| group | what it sets |", "|---|---|", *rows]
    parts = [INTRODUCTION, "\n".join(contents) + "\n"]
    for title, about, body in sections:
        parts.append("\n\n".join([f"## {title}", f"{about[0].upper()}{about[1:]}.", *body]) + "\n")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, str, list[str]]]:
    """Of each group: its title, what it sets, and its tables."""
    known = list(settings().values())
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        config = hydra.compose("config", return_hydra_config=True)
    chosen = config.hydra.runtime.choices
    values = OmegaConf.to_container(config, resolve=False)
    alone = [each for each in known if "." not in each.name and not each.inner]
    yield (
        "the whole run",
        "settings that stand alone, without a group before them",
        [_table(alone, values)],
    )
    for group in known:
        if "." in group.name or not group.inner:
            continue
        inside = [each for each in known if each.name.startswith(f"{group.name}.")]
        leaves = [each for each in inside if not each.inner]
        body = [_files(group.name, chosen.get(group.name))] if group.name in groups() else []
        yield group.name, group.sentence, [*body, _table(leaves, values)]
    for name, about in CHOSEN_ALONE.items():
        yield name, about, [_files(name, chosen.get(name))]


def _files(group: str, default: str | None) -> str:
    rows = [
        f"| `{group}={name}`{' (default)' if name == default else ''} | {_cell(about)} |"
        for name, about in choices(group).items()
    ]
    return "\n".join(["| file | what it is |", "|---|---|", *rows])


def _table(rows: list[Setting], values: Any) -> str:
    head = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(each, values) for each in rows)])


def _row(setting: Setting, values: Any) -> str:
    takes = setting.kind or " or ".join(f"`{value}`" for value in setting.values)
    meaning = [setting.sentence, *(f"`{it}`: {of}" for it, of in setting.values.items())]
    default = _default(setting.name, values)
    shown = "—" if default is None else f"`{default}`"
    cells = [f"`{setting.name}`", takes, shown, "<br>".join(meaning)]
    return f"| {' | '.join(map(_cell, cells))} |"


def _default(name: str, values: Any) -> str | None:
    """As it is typed; None where there is none."""
    if NAME not in name.split("."):
        value = values
        for part in name.split("."):
            value = value[part]
        return typed(value)
    if name.startswith(f"tasks.{NAME}."):
        return typed(read_yaml(EVERY_TASK)[name.rpartition(".")[2]])
    default = _of_schema(name)
    return None if default is MISSING else typed(default)


def _of_schema(name: str) -> Any:
    """The default of a field within a dict that the user fills; MISSING where it has none."""
    kind: type[Any] = Run
    *above, last = [part for part in name.split(".") if part != NAME]
    for part in above:
        hint = get_type_hints(kind)[part]
        kind = get_args(hint)[1] if get_origin(hint) is dict else hint
    assert is_dataclass(kind)
    return next(field.default for field in fields(kind) if field.name == last)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Writes the page, seen from the root of the repository."""
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(reference(), encoding="utf-8")
    print(f"phalanx: wrote {PATH}")


if __name__ == "__main__":
    main()
