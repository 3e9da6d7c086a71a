"""Tab completion: commands, flags, settings, values, files. Imports neither Hydra nor torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.describe import choices, find, groups, settings
from launcher.command_line.arguments import FLAGS, SHORT, WITH_VALUE


def complete(words: Sequence[str], commands: Sequence[str]) -> list[str]:
    """All completions of the last of `words`; the words before it are complete.

    Args:
        words: of the command line without `phalanx` itself; the last may be "".
        commands: of `phalanx`.
    """
    *before, word = words
    if not any(not each.startswith("-") for each in before):
        return [*_begun([f"{command} " for command in commands], word), *_flags(word)]
    if before and SHORT.get(before[-1], before[-1]) in WITH_VALUE:
        return list(_files("", word))
    if word.startswith("-"):
        flag, equals, value = word.partition("=")
        return list(_files(f"{flag}=", value)) if equals else _flags(word)
    if before[0] == "help":
        return _begun([*commands, *groups(), *settings()], word)
    key, equals, value = word.partition("=")
    if not equals:
        return _settings(word)
    return [f"{key}={each}" for each in _values(key, value, _folders(before))]


def _flags(word: str) -> list[str]:
    return _begun([f"{flag} " for flag in FLAGS], word) if word.startswith("-") else []


def _settings(word: str) -> list[str]:
    """Completes up to the next dot, so that a large group is not listed in full."""
    depth = word.count(".") + 1
    names = [*groups(), *settings()]
    found: dict[str, None] = {}
    for name in _begun(names, word):
        parts = name.split(".")
        deeper = len(parts) > depth
        found[".".join(parts[:depth]) + ("." if deeper else "=")] = None
    return list(found)


def _values(key: str, value: str, folders: tuple[Path, ...]) -> Iterator[str]:
    if key in groups():
        yield from _begun(list(choices(key, folders)), value)
        return
    setting = find(key)
    if setting is None:
        return
    if setting.values or setting.kind == "true or false":
        yield from _begun([*(setting.values or ("true", "false"))], value)
    elif "text" in setting.kind:
        yield from _files("", value)


def _folders(before: Sequence[str]) -> tuple[Path, ...]:
    """Of --config-dir."""
    words = [each.partition("=") for each in before]
    for at, (flag, _, value) in enumerate(words):
        if SHORT.get(flag, flag) == "--config-dir":
            given = value or (before[at + 1] if at + 1 < len(before) else "")
            return (Path(given).expanduser(),) if given else ()
    return ()


def _files(prefix: str, begun: str) -> Iterator[str]:
    """Files, and folders with a trailing slash so that their files can be completed next."""
    folder, slash, name = begun.rpartition("/")
    where = Path(f"{folder}{slash}" or ".").expanduser()
    if where.is_dir():
        for path in sorted(where.iterdir()):
            if path.name.startswith(name) and path.name.startswith(".") == name.startswith("."):
                yield f"{prefix}{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def _begun(names: Sequence[str], word: str) -> list[str]:
    return list(dict.fromkeys(name for name in names if name.startswith(word)))
