"""`phalanx convert` against a plain copy: `python -m benchmarks.checkpoint.convert`.

A folder of Hugging Face's, random weights in bfloat16, becomes a checkpoint, and the checkpoint a
folder again. Before each, as many bytes are copied: what is read is read in order, and as many as
are written are written and made to stay (fsync), past the system's cache. The commands are
processes of their own, and their start counts. The peak of a process's memory includes the pages of
files that it has mapped.

A 7B takes 27 GB of disk beside the folder's 13 and the copy's 27; `--layers` scales it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.paired import conditions
from configs.override import override
from corpus.tokenizer.vocabulary import choose
from launcher.command_line.compose import compose_run
from launcher.huggingface.export import parameters
from models.huggingface.families import family_for
from models.huggingface.writing import Writer, write_config
from models.shape import ModelShape
from parallel.checkpoint.direct_io import huge_memory

CHUNK = 1 << 24  # bytes at a time
ROWS = 1 << 26  # numbers of a parameter made at a time
GOAL = 0.8


@dataclass
class Measured:
    """Of one direction: seconds of the command and of the copy before it, and peaks of memory."""

    own: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)  # GiB


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="llama2_7b")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; else a temporary")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    few = [] if options.layers is None else [f"model.layers={options.layers}"]
    shape = ModelShape.of(compose_run([f"model={options.model}", *few]).model)
    found = {name: Measured() for name in ("from Hugging Face", "to Hugging Face")}
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        given, run, made = folder / "given", folder / "run", folder / "made"
        _write(given, shape)
        sizes = shape.parameters * 2, shape.parameters * 4
        for _ in range(options.rounds):
            source, target = f"convert.source={given}", f"convert.to={made}"
            there, back = found.values()
            checkpoint = run / "checkpoints" / "step_00000000"
            _measure(there, given, sizes[1], folder, [source, override("run_dir", str(run))])
            _measure(
                back,
                checkpoint,
                sizes[0],
                folder,
                [target, override("run_dir", str(run)), "precision=bf16"],
            )
            shutil.rmtree(run)
            shutil.rmtree(made)
    _show(found, sum(sizes), f"{options.model}, {shape.layers} layers, {sizes[0] / 1e9:.1f} GB")


def _write(folder: Path, shape: ModelShape) -> None:
    """A folder of random weights."""
    folder.mkdir()
    family = family_for(shape)
    numbers = torch.randn(ROWS)
    with Writer(folder, family, shape, torch.bfloat16) as writer:
        for name, each in parameters(shape).items():
            rows, *columns = each.shape
            width = columns[0] if columns else 1
            for first in range(0, rows, ROWS // width):
                count = min(ROWS // width, rows - first)
                part = numbers[: count * width].view(count, *columns)
                writer.take(name, (first, *[0] * len(columns)), part)
    write_config(folder, family, shape)
    tokenizer = compose_run(["model.vocab=300", "model.tokenizer=trained"]).model
    text = choose(tokenizer).make(["some text " * 100])
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def _measure(to: Measured, source: Path, written: int, folder: Path, words: list[str]) -> None:
    files = sorted(path for path in source.iterdir() if path.stat().st_size > CHUNK)
    for path in files:
        _forget(path)
    to.copy.append(_timed(lambda: _copy(files, written, folder / "copy")))
    (folder / "copy").unlink()
    for path in files:
        _forget(path)
    peak = 0

    def command() -> None:
        nonlocal peak
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "convert", *words], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, words
        peak = used.ru_maxrss

    to.own.append(_timed(command))
    to.peak.append(peak / 2**20)


def _timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _copy(files: list[Path], written: int, target: Path) -> None:
    """Reads all files, and meanwhile writes so many bytes."""
    memory = huge_memory(CHUNK)
    size = sum(path.stat().st_size for path in files)
    done = read = 0
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o666)
    try:
        for path in files:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
            try:
                while count := os.readv(handle, [memory]):
                    read += count
                    while done < written * read // size:
                        done += os.write(out, memory)
                    if count % 4096:  # the end, which need not fill a block
                        break
            finally:
                os.close(handle)
        os.fsync(out)
    finally:
        os.close(out)


def _forget(path: Path) -> None:
    """Lets the system's cache of a file go."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _show(found: dict[str, Measured], size: int, title: str) -> None:
    table = Table(box=box.SIMPLE)
    for heading in ("", "of the copy's rate", "from, to", "MB/s", "copy, MB/s", "peak, GiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, each in found.items():
        ratios = [copy / own for own, copy in zip(each.own, each.copy, strict=True)]
        table.add_row(
            name,
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}, {max(ratios):.2f}",
            *(f"{size / 1e6 / statistics.median(it):,.0f}" for it in (each.own, each.copy)),
            f"{max(each.peak):.2f}",
        )
    rounds = len(next(iter(found.values())).own)
    print(f"{title} as bfloat16; {rounds} rounds; the goal is {GOAL}\n{conditions()}")
    Console(markup=False, width=100).print(table)


if __name__ == "__main__":
    main()
