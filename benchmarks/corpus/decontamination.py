"""The 13-gram training filter against datatrove's and dolma's, on one core.

`python -m benchmarks.corpus.decontamination --text FOLDER --benchmark FILE.jsonl` shuffles the
paragraphs of the text into documents, plants benchmark examples with other case and punctuation in
some, and filters. `--rivals PYTHON` names the interpreter of an environment with datatrove and
dolma; they take turns with ours, each round giving a ratio of neighbours. All run on the same core.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.paired import Spread
from configs.settings.text import BenchmarkConfig
from corpus.contamination.benchmarks import read_benchmark
from corpus.contamination.filter import Cut, Rules, Span, filter_documents, filter_table
from corpus.contamination.grams import GramTable
from corpus.contamination.scan import Scanner

N = 13
RULES = Rules(window=200, min_piece=200, max_pieces=10, max_documents=10)
DOCUMENT = 5_000  # characters, about
OURS = "phalanx"
SLICES = {"datatrove": 1_000_000, "dolma": 8_000_000}
"""Characters that a rival filters a round: seconds, as slow as they are."""


@dataclass(frozen=True)
class Material:
    documents: list[str]
    planted: dict[int, Span]  # by document: where the example is
    examples: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(len(document.encode()) for document in self.documents)

    def head(self, characters: int) -> Material:
        """The first documents, of so many characters in all."""
        sizes = accumulate(len(document) for document in self.documents)
        number = 1 + sum(size < characters for size in sizes)
        planted = {key: span for key, span in self.planted.items() if key < number}
        return Material(self.documents[:number], planted, self.examples)


Filter = Callable[[], tuple[float, set[int]]]
"""Runs once: seconds a MB, and the documents it found something in."""


def main() -> None:
    options = _options()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # children too
    material = make_material(options)
    started = time.perf_counter()
    examples = read_benchmark("benchmark", BenchmarkConfig(path=str(options.benchmark)))
    table = filter_table([examples], N)
    print(
        f"{len(material.documents):,} documents, {material.bytes / 1e6:.1f} MB; "
        f"{len(table):,} {N}-grams of {len(examples.examples):,} examples, "
        f"read and indexed in {time.perf_counter() - started:.1f} s"
    )
    check(material, filter_documents(material.documents, table, RULES), table)
    with tempfile.TemporaryDirectory() as folder:
        filters = {OURS: _ours(material, table)}
        filters |= _rivals(options.rivals, material, Path(folder)) if options.rivals else {}
        show(measure(filters, options.rounds))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", type=Path, required=True, help="a file or folder: .txt, .jsonl")
    parser.add_argument("--benchmark", type=Path, required=True, help=".jsonl, .jsonl.gz or .zst")
    parser.add_argument("--rivals", type=Path, help="a Python that has datatrove and dolma")
    parser.add_argument("--megabytes", type=float, default=80, help="of text, repeated if needed")
    parser.add_argument("--planted", type=int, default=192, help="examples")
    parser.add_argument("--rounds", type=int, default=15)
    return parser.parse_args()


def make_material(options: argparse.Namespace) -> Material:
    generator = random.Random(1)
    paragraphs = read_paragraphs(options.text)
    documents: list[list[str]] = []
    size: float = 0
    while size < options.megabytes * 1e6:
        generator.shuffle(paragraphs)
        for paragraph in paragraphs:
            if not documents or sum(map(len, documents[-1])) > DOCUMENT:
                documents.append([])
            documents[-1].append(paragraph)
            size += len(paragraph.encode())
            if size >= options.megabytes * 1e6:
                break
    benchmark = read_benchmark("benchmark", BenchmarkConfig(path=str(options.benchmark)))
    long = [each for each in benchmark.examples if len(each.split()) >= 2 * N]
    planted = {}
    chosen = generator.sample(range(len(documents)), options.planted)
    for number, example in zip(chosen, generator.sample(long, options.planted), strict=True):
        disguised = disguise(example, generator)
        before, after = documents[number][:1], documents[number][1:]
        start = len("\n\n".join([*before, ""]))
        planted[number] = start, start + len(disguised)
        documents[number] = [*before, disguised, *after]
    return Material(["\n\n".join(document) for document in documents], planted, benchmark.examples)


def read_paragraphs(source: Path) -> list[str]:
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    texts: list[str] = []
    for file in files:
        if file.suffix == ".txt":
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
        elif file.suffix == ".jsonl":
            rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
            texts += [row["text"] for row in rows if isinstance(row.get("text"), str)]
    paragraphs = [each for text in texts for each in re.split(r"\n\s*\n", text) if each.strip()]
    if not paragraphs:
        sys.exit(f'--text {source}: no text in .txt files or the "text" of .jsonl files')
    return paragraphs


def disguise(example: str, generator: random.Random) -> str:
    """The same words in other case, with other punctuation and line breaks."""
    parts = re.sub(r"[^\w\s]|_", "", example).split()
    parts = [getattr(part, generator.choice(["upper", "title", "lower"]))() for part in parts]
    return "".join(part + generator.choice([" ", " ", ", ", "... ", "\n", "  "]) for part in parts)


def check(material: Material, cuts: Sequence[Cut], table: GramTable) -> None:
    """Tells what became of planted and of other documents."""
    gone = sum(
        all(stop <= span[0] or start >= span[1] for start, stop in cuts[number].pieces)
        for number, span in material.planted.items()
    )
    changed = {
        number
        for number, (text, each) in enumerate(zip(material.documents, cuts, strict=True))
        if each.pieces != ((0, len(text)),)
    }
    others = sorted(changed - material.planted.keys())
    print(f"planted examples removed: {gone} of {len(material.planted)}")
    print(f"other documents changed: {len(others)} of {len(cuts) - len(material.planted):,}")
    for hit in Scanner(table).scan([material.documents[number] for number in others[:5]]):
        print(f"  they share with an example: {' '.join(table.words(hit.gram))}")


def _ours(material: Material, table: GramTable) -> Filter:
    megabytes = material.bytes / 1e6

    def run() -> tuple[float, set[int]]:
        started = time.perf_counter()
        cuts = filter_documents(material.documents, table, RULES)
        seconds = time.perf_counter() - started
        lengths = map(len, material.documents)
        whole = [each.pieces == ((0, length),) for each, length in zip(cuts, lengths, strict=True)]
        return seconds / megabytes, {number for number, same in enumerate(whole) if not same}

    return run


def _rivals(python: Path, material: Material, folder: Path) -> dict[str, Filter]:
    """Each keeps a process that has loaded all it needs, and filters when told to."""
    _write(folder / "benchmark", material.examples)
    return {
        name: _rival(python, name, material.head(characters), folder)
        for name, characters in SLICES.items()
    }


def _rival(python: Path, name: str, part: Material, folder: Path) -> Filter:
    _write(folder / name, part.documents)
    script = Path(__file__).with_name("decontamination_rivals.py")
    process = subprocess.Popen(
        [python, script, name, folder, str(N)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / f"{name}.log").open("w"),
        text=True,
    )

    def ask(question: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{question}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            sys.exit(f"{name} failed:\n{(folder / f'{name}.log').read_text()[-2000:]}")
        return dict(json.loads(answer))

    version = ask("version")["version"]
    found = set(ask("filter")["found"])
    megabytes = part.bytes / 1e6
    print(
        f"{name} {version}, {megabytes:.1f} MB a round: found {len(found & part.planted.keys())} "
        f"of {len(part.planted)} planted, and something in {len(found - part.planted.keys())} of "
        f"{len(part.documents) - len(part.planted):,} other documents"
    )

    def run() -> tuple[float, set[int]]:
        answer = ask("filter")
        return answer["seconds"] / megabytes, set(answer["found"])

    return run


def _write(folder: Path, texts: Sequence[str]) -> None:
    (folder / "documents").mkdir(parents=True)
    with gzip.open(folder / "documents" / "0.jsonl.gz", "wt", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": str(number), "text": text, "source": ""}) + "\n")


def measure(filters: dict[str, Filter], rounds: int) -> dict[str, list[float]]:
    """Seconds a MB, round by round; the order turns, so that a drift favours none."""
    seconds: dict[str, list[float]] = {name: [] for name in filters}
    names = list(filters)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time_taken, _ = filters[name]()
            if number:  # the first round warms up
                seconds[name].append(time_taken)
    return seconds


def show(seconds: dict[str, list[float]]) -> None:
    table = Table(box=box.SIMPLE)
    for heading in ("", "MB/s", "quartiles", "ours is faster", "known within", "1 TB", "64 cores"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, taken in seconds.items():
        speed = Spread.of([1 / each for each in taken])
        ratio = Spread.of([each / own for each, own in zip(taken, seconds[OURS], strict=True)])
        hours = statistics.median(taken) * 1e6 / 3600
        table.add_row(
            name,
            f"{speed.median:.3g}",
            f"{speed.quartiles[0]:.3g} to {speed.quartiles[1]:.3g}",
            "" if name == OURS else f"{ratio.median:.1f} times",
            "" if name == OURS else f"{ratio.interval[0]:.1f} to {ratio.interval[1]:.1f}",
            f"{hours:,.1f} h",
            f"{hours / 64:,.2f} h",
        )
    print(f"one core, {len(seconds[OURS])} rounds, load {os.getloadavg()[0]:.1f}")
    Console(markup=False, width=100).print(table)


if __name__ == "__main__":
    main()
