"""The time of the kernels of a pass: a roofline of matmul peak and memory bandwidth, in seconds.

Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from parallel.planner.inputs.calibration import Constants
from parallel.planner.inputs.machine import Machine

TILE_ROWS, TILE_COLUMNS = 128, 256  # of a matmul's output, cuBLAS's usual for 16 bits
CAST_BYTES = 4
"""Bytes moved to cast a number to FP8: read in 16 bits, written, and written transposed, as the
gradient of the weights needs it on Hopper (Transformer Engine's user guide, FP8 primer).
"""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Seconds of a GPU's kernels in one precision."""

    machine: Machine
    constants: Constants
    precision: str

    @property
    def number_bytes(self) -> int:
        """Bytes of a number in memory: 4 in float32, else 2."""
        return 4 if self.precision == "float32" else 2

    @property
    def launch(self) -> float:
        """Seconds of a kernel's launch and the gap before the next."""
        return self.constants.kernel_us * 1e-6

    def linear(self, tokens: int, outputs: int, inputs: int, count: int = 1) -> tuple[float, float]:
        """Seconds of linear layers [tokens, inputs] x [inputs, outputs], forward and backward.

        In FP8 the inputs and the gradients of the outputs are first cast to it.
        """
        forward = self.matmul(tokens, outputs, inputs, count=count)
        backward = self.matmul(tokens, inputs, outputs, count=count)
        backward += self.matmul(outputs, inputs, tokens, count=count)
        if self.precision == "fp8":
            forward += self.moving(CAST_BYTES * count * tokens * inputs)
            backward += self.moving(CAST_BYTES * count * tokens * outputs)
        return forward, backward

    def matmul(self, m: int, n: int, k: int, *, count: int = 1, narrow: bool = True) -> float:
        """`count` products [m, k] x [k, n] in one launch.

        Args:
            narrow: False uses 16 bits if the precision is fp8.
        """
        constants, machine = self.constants, self.machine
        precision = "bf16" if self.precision == "fp8" and not narrow else self.precision
        # The last wave of tiles leaves multiprocessors idle.
        tiles = count * math.ceil(m / TILE_ROWS) * math.ceil(n / TILE_COLUMNS)
        waves = tiles / machine.multiprocessors
        idle = 1 + constants.waves * (math.ceil(waves) / waves - 1)
        shallow = 1 + constants.depth / k
        compute = (
            2 * count * m * n * k * idle * shallow / (machine.peak(precision) * constants.matmul)
        )
        width = 1 if precision == "fp8" else self.number_bytes
        moved = width * (m * k + k * n) + self.number_bytes * m * n
        return max(compute, self.moving(count * moved)) + self.launch

    def moving(self, moved: float) -> float:
        """Element-wise work that reads and writes this many bytes in total."""
        return moved / (self.machine.memory_bandwidth * self.constants.memory)

    def attention_flops(self, flops: float) -> float:
        """Attention's own matmuls; in 16 bits if the precision is fp8."""
        precision = "bf16" if self.precision == "fp8" else self.precision
        return flops / (self.machine.peak(precision) * self.constants.attention)
