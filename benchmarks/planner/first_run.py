"""A CPU's planned step time beside what a run measured, as `phalanx train` tells at its end.

    python -m benchmarks.planner.first_run [--rounds 1] [--model NAME] [--layout NAME] [--engine NAME]

Each run measures this machine anew, as the first one after an installation does. The goal is 15 % on
a quiet machine, for both nano models, 1x1, 2x1, 1x2 and 2x2, and both engines.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from itertools import product

MODELS = ("gpt3_nano", "llama_nano")
LAYOUTS = ("single", "tp2", "pp2", "tp2_pp2")
ENGINES = ("megatron", "deepspeed")
STEPS = 40
LINE = re.compile(r"step time, s\s+(\S+)\s+(\S+)")


def first_run(model: str, layout: str, engine: str) -> tuple[float, float]:
    """Planned and measured seconds of a step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"model={model}", f"layout={layout}", f"engine={engine}", f"train.steps={STEPS}"]
        words += ["train.eval_every=0", "train.save_every=0", "device=cpu", "log.progress=false"]
        said = subprocess.run(
            [sys.executable, "-m", "launcher", "train", *words, f"run_dir={folder}/run"],
            env={**os.environ, "PHALANX_CACHE": f"{folder}/cache"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    found = LINE.search(said)
    assert found, said
    return float(found[1].replace(",", "")), float(found[2].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    for name, choices in (("model", MODELS), ("layout", LAYOUTS), ("engine", ENGINES)):
        parser.add_argument(f"--{name}", choices=choices)
    asked = parser.parse_args()
    cases = product(
        [asked.model] if asked.model else MODELS,
        [asked.layout] if asked.layout else LAYOUTS,
        [asked.engine] if asked.engine else ENGINES,
    )
    errors = []
    for case in cases:
        for _ in range(asked.rounds):
            planned, measured = first_run(*case)
            errors.append(planned / measured - 1)
            print(
                f"{' '.join(case):<32} {planned:8.3f} s {measured:8.3f} s "
                f"{errors[-1] * 100:+6.1f} %   load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    sizes = [abs(error) * 100 for error in errors]
    print(
        f"{len(sizes)} runs: median {statistics.median(sizes):.1f} %, worst {max(sizes):.1f} %, "
        f"{sum(size <= 15 for size in sizes)} within 15 %"
    )


if __name__ == "__main__":
    main()
