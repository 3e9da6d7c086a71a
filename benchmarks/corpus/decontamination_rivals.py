"""What `benchmarks.corpus.decontamination` runs in the rivals' environment: a process that filters.

It imports nothing of ours. Standard input asks "version" or "filter", a line each; the answer is a
line of JSON. Loading, and making the index of the benchmark, are done before and not timed.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from typing import Any


def rows(folder: str) -> list[dict[str, Any]]:
    with gzip.open(f"{folder}/documents/0.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Datatrove:
    """Its filter stops at a document's first hit, and the text is in memory, as for ours."""

    def __init__(self, folder: str, n: int) -> None:
        import numpy as np
        from datatrove.data import Document  # type: ignore[import-not-found]
        from datatrove.pipeline.decont.n_grams import (  # type: ignore[import-not-found]
            NGramsDecontConfig,
            NGramsDecontFilter,
            NGramsDecontIndexer,
        )

        # The indexer needs lighteval only to download benchmarks. What it does with their examples
        # is done here with its own method, and written as it writes it.
        NGramsDecontIndexer._requires_dependencies = []
        config = NGramsDecontConfig(n_grams=n)
        index = f"{folder}/datatrove-index"
        indexer = NGramsDecontIndexer(index, config=config)
        hashes = {
            value
            for row in rows(f"{folder}/benchmark")
            for value in indexer.compute_hashes(row["text"])
        }
        os.makedirs(index, exist_ok=True)
        np.array(list(hashes), config.hash_config.np_descr).tofile(f"{index}/b.index.hashes")
        self.filter = NGramsDecontFilter(index, config=config)
        self.filter.load_index_hashes()
        self.texts = [row["text"] for row in rows(f"{folder}/datatrove")]
        self.document = Document

    def run(self) -> tuple[float, list[int]]:
        documents = [self.document(text=text, id=str(n)) for n, text in enumerate(self.texts)]
        started = time.perf_counter()
        kept = [self.filter.filter(document) for document in documents]
        seconds = time.perf_counter() - started
        return seconds, [number for number, each in enumerate(kept) if each is not True]


class Dolma:
    """Its deduper of paragraphs against a Bloom filter that the benchmark filled.

    The time includes reading and writing compressed files, for it does nothing else.
    """

    def __init__(self, folder: str, n: int) -> None:
        self.folder, self.n = folder, n
        self._deduper("benchmark", read_only=False)

    def run(self) -> tuple[float, list[int]]:
        shutil.rmtree(f"{self.folder}/dolma/attributes", ignore_errors=True)
        started = time.perf_counter()
        self._deduper("dolma", read_only=True)
        seconds = time.perf_counter() - started
        found = []
        with gzip.open(glob.glob(f"{self.folder}/dolma/attributes/grams/*")[0], "rt") as file:
            for line in file:
                row = json.loads(line)
                if any(score > 0 for _, _, score in row["attributes"]["grams"]):
                    found.append(int(row["id"]))
        return seconds, found

    def _deduper(self, name: str, read_only: bool) -> None:
        from dolma import deduper  # type: ignore[import-not-found]

        grams = {
            "ngram_length": self.n,
            "stride": 1,
            "overlap_threshold": 1e-6,  # any
            "skip_short_paragraphs": True,
        }
        deduper(
            {
                "documents": [f"{self.folder}/{name}/documents/*.gz"],
                "processes": 1,
                "work_dir": {"input": f"{self.folder}/in", "output": f"{self.folder}/out"},
                "dedupe": {
                    "name": "grams",
                    "skip_empty": True,
                    "min_length": 0,
                    "min_words": 0,
                    "num_partitions": 1,
                    "partition_index": 0,
                    "paragraphs": {"attribute_name": "grams", "by_ngram": grams},
                },
                "bloom_filter": {
                    "file": f"{self.folder}/dolma.bloom",
                    "size_in_bytes": 0,
                    "read_only": read_only,
                    "estimated_doc_count": 1_000_000,
                    "desired_false_positive_rate": 1e-5,
                },
            }
        )


def main() -> None:
    name, folder, n = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the rivals print is not an answer
    rivals: dict[str, type[Datatrove | Dolma]] = {"datatrove": Datatrove, "dolma": Dolma}
    rival = rivals[name](folder, int(n))
    for question in sys.stdin:
        answer: dict[str, Any] = {"version": version(name)}
        if question.strip() == "filter":
            answer["seconds"], answer["found"] = rival.run()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
