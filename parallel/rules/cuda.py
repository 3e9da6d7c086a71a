"""The `cuda` settings and FP8: what each needs, and that none is without effect."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from configs.schema import Precision, Recompute
from configs.settings.cuda import CudaConfig, LayerKind
from models.layer_table import ROUTER
from parallel.engines.registry import able
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import to

_ANY_DEVICE = ("layers", "bf16_gradients", "fp8_scaling", "expandable_segments", "numa_binding")
_FP8_WIDTH = 16  # elements that each side of an FP8 matmul is a multiple of
_FP8_ROWS = 8
TE = "Transformer Engine 2.11 pytorch/utils.py, assert_dim_for_fp8_exec"
NO_EFFECT = "a setting without effect is an error"


def _chosen(case: Case) -> Iterator[tuple[str, object]]:
    """The features that were switched on, each with the value that leaves it out."""
    usual = CudaConfig()
    for name in vars(usual):
        value, default = getattr(case.run.cuda, name), getattr(usual, name)
        if value not in (default, False):
            yield name, default


def _exists(case: Case, name: str) -> bool:
    return case.device == "cuda" or name in _ANY_DEVICE


def features_are_of_cuda(case: Case) -> Iterator[Fault]:
    """What is switched on in `cuda` needs CUDA, unless it works everywhere."""
    for name, default in _chosen(case):
        required = name == "layers" and case.run.cuda.layers is LayerKind.transformer_engine
        if not _exists(case, name) or (required and case.device != "cuda"):
            yield Fault(
                setting=f"cuda.{name}",
                why="it exists on CUDA only, and device is cpu",
                source=NO_EFFECT,
                fixes=(to({f"cuda.{name}": default}),),
            )


def the_engine_has_the_features(case: Case) -> Iterator[Fault]:
    """The engine supports what is switched on in `cuda`."""
    for name, default in _chosen(case):
        if name in case.engine.lacks and _exists(case, name):
            other = able(lambda kind, name=name: name not in kind.lacks)  # type: ignore[misc]
            yield Fault(
                setting=f"cuda.{name}",
                why=f"engine={case.engine.name} does not have it"
                + (f"; engine={other.name} does" if other else ""),
                source=case.engine.source,
                fixes=(
                    to({f"cuda.{name}": default}),
                    *([to({"engine": other.name})] if other else []),
                ),
            )


def features_have_what_they_need(case: Case) -> Iterator[Fault]:
    """Each feature that is switched on would do something, and nothing wrong."""
    cuda, layout, precision = case.run.cuda, case.layout, case.run.precision
    halves = precision.stored is Precision.bf16
    overlap = layout.tensor > 1 and layout.sequence_parallel
    wanting: tuple[tuple[str, bool, str, object, str], ...] = (
        (
            "layers",
            cuda.layers is LayerKind.transformer_engine and precision is Precision.float32,
            "its matmuls round float32 to TF32",
            LayerKind.auto,
            "Transformer Engine 2.11 common/gemm/cublaslt_gemm.cu",
        ),
        (
            "cross_entropy_fusion",
            bool(cuda.cross_entropy_fusion) and not halves,
            f"it rounds the logits' gradient to bf16, and precision is {precision}",
            None,
            "Megatron-core fusions/fused_cross_entropy.py",
        ),
        (
            "average_in_collective",
            bool(cuda.average_in_collective) and layout.copies == 1,
            "there is nothing to average over with data=1 and context=1",
            None,
            NO_EFFECT,
        ),
        (
            "align_param_gather",
            bool(cuda.align_param_gather)
            and not (layout.interleave > 1 and layout.zero == 1 and layout.copies > 1),
            "it is for an interleaved pipeline with zero=1 and data or context > 1",
            None,
            "Megatron-core pipeline_parallel/schedules.py",
        ),
        (
            "bucket_size",
            cuda.bucket_size is not None and layout.copies == 1,
            "there is nothing to reduce over with data=1 and context=1",
            None,
            NO_EFFECT,
        ),
        (
            "bf16_gradients",
            cuda.bf16_gradients and not halves,
            f"gradients are of the weights' format, and precision is {precision}",
            False,
            "Megatron-core distributed/distributed_data_parallel.py",
        ),
        (
            "tensor_overlap",
            cuda.tensor_overlap and not overlap,
            "it overlaps the gathers of tensor > 1 with sequence_parallel=true",
            False,
            "Megatron-core model_parallel_config.py, tp_comm_overlap",
        ),
        (
            "tensor_overlap",
            cuda.tensor_overlap
            and (cuda.layers is LayerKind.local or precision is Precision.float32),
            "it is Transformer Engine's, which float32 and cuda.layers=local are without",
            False,
            "Megatron-core model_parallel_config.py, tp_comm_overlap",
        ),
        (
            "graphs",
            cuda.graphs and layout.recompute is not Recompute.none,
            "a graph cannot hold recomputation",
            False,
            "Megatron-core tensor_parallel/random.py, CheckpointFunction",
        ),
        (
            "graphs",
            cuda.graphs and layout.pipeline > 1,
            "a stage frees its outputs once they are sent, and a graph keeps them",
            False,
            "Megatron-core pipeline_parallel/schedules.py, deallocate_output_tensor",
        ),
        (
            "graphs",
            cuda.graphs and case.run.train.document_mask,
            "documents begin elsewhere in every micro-batch",
            False,
            "Megatron-core transformer/cuda_graphs.py",
        ),
        (
            "graphs",
            cuda.graphs and layout.context > 1,
            "ranks that share a sequence send each other messages within a layer",
            False,
            "no one has captured them",
        ),
        (
            "graphs",
            cuda.graphs and case.shape.moe.experts > 0,
            "how many tokens go to an expert is known on the device alone, and read from there",
            False,
            "Megatron-core transformer/moe/token_dispatcher.py",
        ),
        (
            "fp8_scaling",
            cuda.fp8_scaling is not CudaConfig().fp8_scaling and precision is not Precision.fp8,
            f"only precision=fp8 has scales, and precision is {precision}",
            CudaConfig().fp8_scaling,
            NO_EFFECT,
        ),
    )
    for name, wrong, why, without, source in wanting:
        there = _exists(case, name) and (name != "layers" or case.device == "cuda")
        if wrong and there and name not in case.engine.lacks:
            yield Fault(
                setting=f"cuda.{name}",
                why=why,
                source=source,
                fixes=(to({f"cuda.{name}": without}),),
            )


def fp8_has_what_it_needs(case: Case) -> Iterator[Fault]:
    """FP8 is Transformer Engine's on CUDA, in an engine that sets its scales."""
    if case.run.precision is not Precision.fp8:
        return
    bf16 = to({"precision": Precision.bf16})
    if case.device != "cuda":
        why = "its matmuls are Transformer Engine's, which runs on CUDA, and device is cpu"
        yield Fault(setting="precision", why=why, source=TE, fixes=(bf16,))
        return
    if case.run.cuda.layers is LayerKind.local:
        yield Fault(
            setting="precision",
            why="its matmuls are Transformer Engine's, and cuda.layers=local is without",
            source=TE,
            fixes=(to({"cuda.layers": LayerKind.auto}), bf16),
        )
    if "fp8" in case.engine.lacks:
        other = able(lambda kind: "fp8" not in kind.lacks)
        yield Fault(
            setting="precision",
            why=f"engine={case.engine.name} does not set FP8's scales",
            source=case.engine.source,
            fixes=(*([to({"engine": other.name})] if other else []), bf16),
        )


def fp8_matmuls_are_even(case: Case) -> Iterator[Fault]:
    """Every side of an FP8 matmul on a rank is a multiple of 16, its rows of 8."""
    layout, model = case.layout, case.run.model
    if case.run.precision is not Precision.fp8 or min(layout.tensor, layout.micro_batch) < 1:
        return
    uneven = (
        (each.name, size)
        for layer in {0, max(case.shape.layers - 1, 0)}  # the first may have no experts
        for each in case.shape.layer(layer)
        for size in each.shape_on_rank(each.parts(layout.cut))
        if each.is_matrix and each.name != ROUTER and size % _FP8_WIDTH
    )
    for name, size in islice(uneven, 1):
        yield Fault(
            setting="precision",
            why=f"{name} has a side of {size} on each of {layout.tensor} tensor ranks, which is "
            f"not a multiple of {_FP8_WIDTH}",
            source=TE,
            fixes=(to({"layout.tensor": 1}), to({"precision": Precision.bf16})),
        )
    rows = model.context // max(layout.context, 1) * layout.micro_batch
    parts = layout.tensor if layout.sequence_parallel else 1
    # A weight's gradient multiplies over all rows, of which a matmul's side has to be even too.
    if rows % _FP8_WIDTH or rows % (_FP8_ROWS * parts):
        yield Fault(
            setting="precision",
            why=f"{rows} tokens of a micro-batch are not a multiple of {_FP8_WIDTH}, or those of a "
            f"rank not of {_FP8_ROWS}",
            source=f"{TE}; common/gemm/cublaslt_gemm.cu",
            fixes=(
                to(
                    *({"layout.micro_batch": times * layout.micro_batch} for times in (2, 4, 8, 16))
                ),
                to({"precision": Precision.bf16}),
            ),
        )


RULES: tuple[Rule, ...] = (
    features_are_of_cuda,
    the_engine_has_the_features,
    features_have_what_they_need,
    fp8_has_what_it_needs,
    fp8_matmuls_are_even,
)
