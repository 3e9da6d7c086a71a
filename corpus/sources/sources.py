"""The sources of a corpus: their names, weights and files."""

from __future__ import annotations

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from configs.override import override
from configs.settings.text import CorpusConfig, SourceConfig, TextFormat
from configs.words import listed
from corpus.formats import ending_of, format_of
from corpus.sources.faults import of_each

FIELD, TEXT_FIELD = "corpus.field", "text"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSource:
    """A source with its share; the shares sum to 1."""

    name: str
    share: float
    setting: str  # its name in error messages
    field_setting: str  # names the field of its JSONL; with ++ if a file may not have it yet
    config: SourceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A text file as it was when listed: size in bytes, modification time in nanoseconds."""

    path: Path
    format: TextFormat
    bytes: int
    modified_ns: int


def sources_of(corpus: CorpusConfig) -> tuple[TextSource, ...]:
    """corpus.text as the only source, else corpus.sources in order.

    A source's share is its weight divided by the sum of all weights. Raises InputError for weights
    that are negative or all 0, and for names and paths that cannot be used.
    """
    if corpus.text is not None:
        config = SourceConfig(weight=1.0, path=corpus.text, field=corpus.field)
        return (
            TextSource(
                name="text",
                share=1.0,
                setting="corpus.text",
                field_setting=FIELD,
                config=config,
            ),
        )
    if not corpus.sources:
        raise InputError("corpus.sources: there are none; give corpus.text=PATH or corpus=default")
    if corpus.field != TEXT_FIELD:
        name = next(iter(corpus.sources))
        nearest = override(f"++corpus.sources.{name}.field", corpus.field)
        raise InputError(
            f"{override(FIELD, corpus.field)}: is of corpus.text, and each source has its own; "
            f"nearest: {nearest}"
        )
    of_each(lambda each: _check(*each), corpus.sources.items())
    if any(c.quality for c in corpus.sources.values()) and not any(
        c.curated for c in corpus.sources.values()
    ):
        raise InputError(
            "corpus.sources: one has quality=true, but no source is curated for it to be compared "
            "with; nearest: curated=true for the best of them"
        )
    total = _total({name: config.weight for name, config in corpus.sources.items()})
    return tuple(
        TextSource(
            name=name,
            share=config.weight / total,
            setting=f"corpus.sources.{name}.path",
            field_setting=f"++corpus.sources.{name}.field",
            config=config,
        )
        for name, config in corpus.sources.items()
    )


def _check(name: str, config: SourceConfig) -> None:
    setting = f"corpus.sources.{name}"
    require_name(setting, name)
    if not math.isfinite(config.weight):
        raise InputError(f"{setting}.weight={config.weight:g} is no share; nearest: 0")
    if config.weight < 0:
        raise InputError(f"{setting}.weight={config.weight:g} is negative; nearest: 0")
    if (config.path is None) == (config.machine is None):
        if config.path is None:
            raise InputError(
                f"{setting}: has neither a path nor machine; nearest: ++{setting}.path=PATH"
            )
        raise InputError(
            f"{setting}: has both a path and machine; nearest: ++{setting}.machine=null"
        )


def require_name(setting: str, name: str) -> None:
    """Raises InputError for a name that cannot be part of a file name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"{setting}: letters, digits, _ and - make a name, as files bear it")


def _total(weights: dict[str, float]) -> float:
    total = sum(weights.values())
    if total == 0:
        name = next(iter(weights))
        raise InputError(
            f"corpus.sources: all weights are 0, so nothing would be read (there are "
            f"{listed(weights)}); nearest: corpus.sources.{name}.weight=1"
        )
    if math.isinf(total):
        raise InputError("corpus.sources: the weights add up to more than a number can hold")
    return total


class NotMadeError(Exception):
    """Machine text has not been generated yet."""


def files_of_all(
    sources: Sequence[TextSource], corpus: CorpusConfig, texts: Path, progress: Progress | None
) -> list[tuple[TextSource, list[TextFile]]]:
    """Each source with its files, as in `files_of`. Errors name all sources at fault."""
    # Machine text takes minutes to generate; report missing paths first.
    given = [source for source in sources if source.config.machine is None]
    found = of_each(lambda source: files_of(source, corpus, texts, progress), given)
    files = {source.name: each for source, each in zip(given, found, strict=True)}
    return [
        (source, files.get(source.name) or files_of(source, corpus, texts, progress))
        for source in sources
    ]


def files_of(
    source: TextSource, corpus: CorpusConfig, texts: Path, progress: Progress | None
) -> list[TextFile]:
    """The files of one source, in the order of their names.

    `texts` is where machine text is kept; it is generated if missing, unless `progress` is None:
    then this raises NotMadeError. Raises InputError if there are no files.
    """
    config = source.config
    if config.machine is not None:
        from corpus.machine import machine_file, machine_path

        path = machine_path(config.machine, texts, config.max_bytes)
        if progress is not None:
            machine_file(config.machine, texts, config.max_bytes, progress)
        elif not path.exists():
            raise NotMadeError(path)
        return [_file(path, format_of(path, TextFormat.auto, []) or TextFormat.text)]
    if not config.path:
        raise InputError(f"{source.setting}: is empty; nearest: a file or a folder")
    place = expanded("corpus.root", corpus.root or "") / expanded(source.setting, config.path)
    try:
        if place.is_file():
            chosen = format_of(place, config.format, corpus.extensions) or TextFormat.text
            return [_file(place, chosen)]
        return _several(source, corpus, place)
    except OSError as error:
        raise InputError(
            f"{source.setting}: cannot read {error.filename or place}: {error.strerror}"
        ) from error


def _several(source: TextSource, corpus: CorpusConfig, place: Path) -> list[TextFile]:
    """The files in a folder, or those that match a pattern."""
    known, others = _sorted_out(source, corpus, place)
    if not known:
        endings, nearest = _endings(others, corpus)
        raise InputError(
            f"{source.setting}: {place} holds no text in files that end in "
            f"{listed(corpus.extensions, apart=' ')} (corpus.extensions), .jsonl, .warc or .wet, "
            f"or these with .gz or .zst"
            + (f"; it has {endings}" if endings else "")
            + (f"; nearest: {nearest}" if nearest else "")
        )
    return [_file(path, format) for path, format in known]


def _sorted_out(
    source: TextSource, corpus: CorpusConfig, place: Path
) -> tuple[list[tuple[Path, TextFormat]], list[Path]]:
    """Files of a known format, with it, and the other files."""
    if place.is_dir():
        paths = _walk(place)
    elif glob.has_magic(str(place)):
        paths = sorted(Path(match) for match in glob.glob(str(place), recursive=True))
        if not paths:
            raise InputError(f"{source.setting}: no file is named like {place}")
    else:
        raise InputError(f"{source.setting}: no file or folder {place}")
    known, others = [], []
    for path in paths:
        if format := format_of(path, source.config.format, corpus.extensions):
            if not path.is_dir():
                known.append((path, format))
        elif not path.is_dir():
            others.append(path)
    return known, others


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files of a folder or pattern that are not read, as their extension is unknown."""

    source: str
    files: int
    read: int
    endings: str  # for display: ".html 12, .csv 3"
    nearest: str  # the override that reads the most common extension; empty if none has one


def left_out(corpus: CorpusConfig) -> Iterator[LeftOut]:
    """One for each source; omits missing or unreadable sources, which `files_of` reports."""
    for source in sources_of(corpus):
        path = source.config.path
        if path is None:
            continue
        try:
            place = expanded("corpus.root", corpus.root or "") / expanded(source.setting, path)
            known, others = ([], []) if place.is_file() else _sorted_out(source, corpus, place)
        except (InputError, OSError):
            continue
        if others:
            endings, nearest = _endings(others, corpus)
            yield LeftOut(
                source=source.name,
                files=len(others),
                read=len(known),
                endings=endings,
                nearest=nearest,
            )


def _endings(files: Sequence[Path], corpus: CorpusConfig) -> tuple[str, str]:
    """Counts by extension, most common first, and the override that reads the most common."""
    counts = Counter(ending_of(path) for path in files).most_common()
    said = listed([f"{ending or 'no ending'} {count:,}" for ending, count in counts])
    first = next((ending for ending, _ in counts if ending), "")
    plain = re.fullmatch(r"\.\w+", first, re.ASCII)
    extensions = ",".join([*corpus.extensions, first])
    return said, f"corpus.extensions=[{extensions}]" if plain else ""


def _walk(folder: Path) -> list[Path]:
    """All files, following links. Raises OSError for a folder that cannot be read."""
    files, seen = [], set[str]()
    for root, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        seen.add(os.path.realpath(root))
        # .git, .venv and the like contain no text of interest, and links may form cycles.
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(root, name)) not in seen
        ]
        files += [Path(root, name) for name in names]
    return sorted(files)


def _raise(error: OSError) -> None:
    raise error


def expanded(setting: str, path: str) -> Path:
    """Expands ~. Raises InputError for the home of an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{setting}={path}: {error}") from error


def _file(path: Path, format: TextFormat) -> TextFile:
    status = path.stat()
    return TextFile(
        path=path.absolute(), format=format, bytes=status.st_size, modified_ns=status.st_mtime_ns
    )
