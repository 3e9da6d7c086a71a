"""`phalanx prepare` against Megatron-LM's recipe for token files, on one core.

`python -m benchmarks.corpus.tokenising [--text FOLDER]` writes the text as JSONL, a document a
line, and makes token files of it with GPT-2's vocabulary in both ways, in turn. Megatron-LM's
recipe (tools/preprocess_data.py with one worker) reads a line, encodes it with a fast tokenizer of
Hugging Face and adds it to an IndexedDatasetBuilder. Ours is the whole of `phalanx prepare`: two
readings, hashes, what is held out, files synced to disk. It is shown first that both give the same
tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import tokenizers

from benchmarks import paired
from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.dataset.megatron_import import quiet_import
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared
from corpus.tokenizer.vocabulary import GPT2_SIZE, gpt2
from launcher.command_line.compose import compose_run

with quiet_import():
    from megatron.core.datasets.indexed_dataset import DType, IndexedDataset, IndexedDatasetBuilder

THEIRS, OURS = "Megatron-LM's recipe", "phalanx prepare"
DOCUMENT = 5_000  # characters, about
END = GPT2_SIZE - 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--text", type=Path, default=Path("/usr/share/doc"), help="a folder of .txt"
    )
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--megabytes", type=float, default=10.0)
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    file = folder / "text.jsonl"
    size = _write(file, options.text, round(options.megabytes * 1e6))
    run = compose_run(["model.tokenizer=gpt2", f"model.vocab={GPT2_SIZE}", f"corpus.text={file}"])
    corpus = replace(run.corpus, cache=str(folder / "cache"), workers=1)
    tokenizer = tokenizers.Tokenizer.from_str(gpt2(GPT2_SIZE).make([]))
    _require_same_tokens(_theirs(tokenizer, file, folder), _ours(corpus, run.model))
    result = paired.measure(
        {
            THEIRS: lambda steps: _repeat(steps, lambda: _theirs(tokenizer, file, folder)),
            OURS: lambda steps: _repeat(steps, lambda: _ours(corpus, run.model)),
        },
        rounds=options.rounds,
        steps=1,
        warm_up=1,
    )
    paired.show(result, f"token files of {size / 1e6:.1f} MB of text, one core")
    for name, seconds in result.seconds.items():
        rate = size / statistics.median(seconds)
        hours = 1e12 / rate / 3600
        print(
            f"{name}: {rate / 1e6:.1f} MB/s; a terabyte takes {hours:.0f} h on one core, "
            f"{hours / 64:.1f} h on 64"
        )
    speeds = paired.Spread.of([1 / r for r in _ratios(result)])
    low, high = speeds.interval
    print(f"{OURS} is {speeds.median:.2f} times as fast, known within {low:.2f} to {high:.2f}")


def _write(file: Path, folder: Path, most: int) -> int:
    """Documents of whole lines; returns their bytes."""
    size = 0
    with file.open("w", encoding="utf-8") as out:
        for document in filter(str.strip, _documents(folder)):  # ours leaves blank ones out
            if size >= most:
                break
            out.write(json.dumps({"text": document}, ensure_ascii=False) + "\n")
            size += len(document.encode())
    return size


def _documents(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.txt")):
        held: list[str] = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            held.append(line)
            if sum(map(len, held)) >= DOCUMENT:
                yield "".join(held)
                held = []
        if held:
            yield "".join(held)


def _theirs(tokenizer: tokenizers.Tokenizer, file: Path, folder: Path) -> IndexedDataset:
    prefix = str(folder / "theirs")
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=DType.optimal_dtype(GPT2_SIZE))
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            ids = tokenizer.encode(json.loads(line)["text"]).ids
            ids.append(END)
            builder.add_document(ids, [len(ids)])
    builder.finalize(f"{prefix}.idx")
    return IndexedDataset(prefix)


def _ours(corpus: CorpusConfig, model: ModelConfig) -> Prepared:
    shutil.rmtree(str(corpus.cache), ignore_errors=True)
    return prepare(corpus, model)


def _require_same_tokens(theirs: IndexedDataset, ours: Prepared) -> None:
    mine = [IndexedDataset(str(ours.tokens("text", part))) for part in ("train", "validation")]
    found = sorted(tuple(each[n].tolist()) for each in mine for n in range(len(each)))
    expected = sorted(tuple(theirs[n].tolist()) for n in range(len(theirs)))
    assert found == expected, "the two do not give the same tokens"


def _repeat(times: int, action: Callable[[], object]) -> None:
    for _ in range(times):
        action()


def _ratios(result: paired.Paired) -> list[float]:
    both = zip(result.seconds[OURS], result.seconds[THEIRS], strict=True)
    return [own / base for own, base in both]


if __name__ == "__main__":
    main()
