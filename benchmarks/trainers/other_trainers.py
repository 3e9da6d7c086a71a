"""A training step on two gloo ranks against other trainers that run on a CPU.

`python -m benchmarks.trainers.other_trainers --layout tensor=2` (or pipeline=2, data=2). The same
GPT-3 of dense layers, or Llama, float32, the same tokens, each in processes of its own, which take
turns: the engine, PyTorch's own parallelism (for GPT-3), Megatron-core's local spec as it comes,
and picotron where a checkout is given (`benchmarks/trainers/others`). The engine, the first row, is
the base: a ratio says how much longer a step of the other takes, which is how many times the
engine's tokens/s are the other's.
"""

from __future__ import annotations

import argparse

from benchmarks import paired
from benchmarks.trainers import turns
from benchmarks.trainers.turns import ENGINE, LOCAL, PICOTRON, TORCH, take_turns
from configs.settings.network import Positions
from launcher.command_line.compose import compose_run
from parallel.layout import Layout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layout", default="tensor=2", help="one of two ranks, such as data=2")
    parser.add_argument("--model", default="gpt3_nano")
    parser.add_argument("--settings", nargs="*", default=[], help="more settings of a run")
    parser.add_argument("--picotron", default="", help="a checkout of huggingface/picotron")
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    sizes = [f"layout.{size}" for size in options.layout.split(",") if size]
    settings = [f"model={options.model}", "model.attention=dense", "layout=single", "device=cpu"]
    settings += [*sizes, *options.settings]
    run = compose_run(settings)
    ranks = Layout.resolve(run.layout, None).world_size
    # PyTorch's own parallelism is written down for GPT-3 only.
    torchs = [TORCH] if run.model.positions is Positions.learned else []
    result = take_turns(
        [ENGINE, LOCAL, *torchs, *([PICOTRON] if options.picotron else [])],
        settings,
        ranks=ranks,
        rounds=options.rounds,
        steps=1,
        picotron=options.picotron,
    )
    title = ", ".join([options.model, "dense", options.layout, *options.settings])
    paired.show(result, title, turns.threads_of(ranks))


if __name__ == "__main__":
    main()
