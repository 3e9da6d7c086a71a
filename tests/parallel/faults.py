"""Runs that break one rule each: overrides, the setting to blame, the ranks at hand."""

from __future__ import annotations

NANO = "model=gpt3_nano layout=single"
SMALL = "model=gpt3_125m layout=single"
DGX = "layout=single cluster=dgx_a100 launch.name=slurm layout.data=null"
SLURM = f"{NANO} launch.name=slurm cluster.gpus_per_node=1"
GPU = f"{NANO} cluster=dgx_h100 layout.data=2"
ROTARY = f"{NANO} model.positions=rotary"
DEEPSPEED = f"{NANO} engine.name=deepspeed"
MOE = "model=moe_nano layout=single"

# Overrides, the setting to blame, the ranks at hand. With a cluster, its GPUs are at hand.
FAULTS: dict[str, tuple[str, str, int | None]] = {
    "heads over tensor": (f"{SMALL} layout.tensor=8", "layout.tensor", None),
    "tensor beyond heads": (f"{NANO} layout.tensor=8", "layout.tensor", None),
    "query groups over tensor": (
        f"{SMALL} model.query_groups=3 layout.tensor=4",
        "layout.tensor",
        None,
    ),
    "query groups over heads": (f"{NANO} model.query_groups=3", "model.query_groups", None),
    "more query groups than heads": (f"{NANO} model.query_groups=8", "model.query_groups", None),
    "half a pair of channels": (
        f"{ROTARY} model.rotary.fraction=0.1",
        "model.rotary.fraction",
        None,
    ),
    "factor without scaling": (f"{ROTARY} model.rotary.factor=2", "model.rotary.factor", None),
    "scaling without rotation": (
        f"{NANO} model.rotary.scaling=linear model.rotary.factor=2",
        "model.rotary.scaling",
        None,
    ),
    "scaling of no context": (
        f"{ROTARY} model.rotary.scaling=yarn model.rotary.factor=2",
        "model.rotary.original_context",
        None,
    ),
    "frequencies in disorder": (
        f"{ROTARY} model.rotary.scaling=llama3 model.rotary.original_context=64 "
        "model.rotary.low_frequency_factor=8",
        "model.rotary.high_frequency_factor",
        None,
    ),
    "period of no pattern": (f"{NANO} model.dense_every=2", "model.dense_every", None),
    "pattern of no period": (f"{NANO} model.attention=periodic", "model.dense_every", None),
    "hidden over heads": (f"{NANO} model.heads=3", "model.heads", None),
    "layers over stages": (f"{NANO} layout.pipeline=3", "layout.pipeline", None),
    "layers over chunks": (
        f"{NANO} model.layers=6 layout.pipeline=2 layout.interleave=2",
        "layout.interleave",
        None,
    ),
    "30 layers over 4 stages": (
        f"{NANO} model.layers=30 layout.pipeline=4 layout.micro_batch=1",
        "layout.pipeline",
        None,
    ),
    "more stages than layers": (f"{DEEPSPEED} layout.pipeline=8", "layout.pipeline", None),
    "interleave without pipeline": (f"{NANO} layout.interleave=2", "layout.interleave", None),
    "sequence without tensor": (
        f"{NANO} layout.sequence_parallel=true",
        "layout.sequence_parallel",
        None,
    ),
    "sequence over tensor": (
        f"{NANO} layout.tensor=4 layout.sequence_parallel=true model.context=254",
        "model.context",
        None,
    ),
    "sequence over tensor and context": (
        f"{NANO} layout.tensor=4 layout.sequence_parallel=true layout.context=2 model.context=244",
        "model.context",
        None,
    ),
    "context over slices": (f"{NANO} layout.context=3", "layout.context", None),
    "exchange over query groups": (
        f"{NANO} model.query_groups=2 layout.context=4 layout.context_by=exchange",
        "layout.context_by",
        None,
    ),
    "exchange over heads of a tensor rank": (
        f"{NANO} layout.tensor=2 layout.context=4 layout.context_by=exchange",
        "layout.context_by",
        None,
    ),
    "a way without context ranks": (f"{NANO} layout.context_by=ring", "layout.context_by", None),
    "documents in both directions": (
        f"{DEEPSPEED} layout.pipeline=2 layout.schedule=dualpipev train.document_mask=true",
        "train.document_mask",
        None,
    ),
    "positions of no documents": (
        f"{NANO} train.restart_positions=true",
        "train.restart_positions",
        None,
    ),
    "batch over micro-batch": (f"{NANO} layout.micro_batch=3", "train.global_batch", None),
    "batch over data": (f"{NANO} layout.data=8", "train.global_batch", None),
    "micro-batch beyond batch": (f"{NANO} layout.micro_batch=32", "train.global_batch", None),
    "interleaved groups": (
        f"{NANO} layout.pipeline=4 layout.interleave=2 model.layers=8 layout.micro_batch=8",
        "train.global_batch",
        None,
    ),
    "ramp beyond batch": (f"{SMALL} train.global_batch=8", "optimizer.ramp_start", None),
    "ramp past batch": (f"{SMALL} optimizer.ramp_start=48", "optimizer.ramp_start", None),
    "ramp from nothing": (f"{SMALL} optimizer.ramp_start=0", "optimizer.ramp_start", None),
    "ramp over data": (
        f"{SMALL} layout.data=8",
        "optimizer.ramp_start",
        None,
    ),
    "ramp over micro-batch at its limit": (
        f"{SMALL} layout.data=32 layout.micro_batch=1",
        "optimizer.ramp_start",
        None,
    ),
    "ramp with data derived": (
        f"{SMALL} layout.data=null layout.micro_batch=1",
        "optimizer.ramp_start",
        32,
    ),
    "ramp over interleaved groups": (
        f"{SMALL} layout.pipeline=4 layout.interleave=3 layout.micro_batch=8",
        "optimizer.ramp_start",
        None,
    ),
    "a GPU's layers on the CPU": (
        f"{NANO} cuda.layers=transformer_engine",
        "cuda.layers",
        None,
    ),
    "float32 that would be TF32": (
        f"{GPU} cuda.layers=transformer_engine",
        "cuda.layers",
        None,
    ),
    "a graph on the CPU": (f"{NANO} cuda.graphs=true", "cuda.graphs", None),
    "averages of DeepSpeed": (
        f"{GPU} engine.name=deepspeed layout.zero=1 cuda.average_in_collective=true",
        "cuda.average_in_collective",
        None,
    ),
    "averages of one": (
        f"{GPU} layout.data=1 cuda.average_in_collective=true",
        "cuda.average_in_collective",
        None,
    ),
    "buckets of one": (f"{GPU} layout.data=1 cuda.bucket_size=100", "cuda.bucket_size", None),
    "rounded gradients of float32": (
        f"{GPU} cuda.cross_entropy_fusion=true",
        "cuda.cross_entropy_fusion",
        None,
    ),
    "bf16 gradients of float32": (f"{GPU} cuda.bf16_gradients=true", "cuda.bf16_gradients", None),
    "gathers of one chunk": (
        f"{GPU} layout.zero=1 cuda.align_param_gather=true",
        "cuda.align_param_gather",
        None,
    ),
    "overlap of one rank": (
        f"{GPU} precision=bf16 cuda.tensor_overlap=true",
        "cuda.tensor_overlap",
        None,
    ),
    "overlap of local layers": (
        f"{GPU} layout.tensor=2 layout.sequence_parallel=true cuda.layers=local "
        "cuda.tensor_overlap=true",
        "cuda.tensor_overlap",
        None,
    ),
    "graphs of recomputed layers": (
        f"{GPU} layout.recompute=full cuda.graphs=true",
        "cuda.graphs",
        None,
    ),
    "graphs of attention computed again": (
        f"{GPU} layout.recompute=selective cuda.graphs=true",
        "cuda.graphs",
        None,
    ),
    "graphs of stages": (f"{GPU} layout.pipeline=2 cuda.graphs=true", "cuda.graphs", None),
    "scales without fp8": (f"{GPU} cuda.fp8_scaling=delayed", "cuda.fp8_scaling", None),
    "overlap of float32": (
        f"{GPU} layout.tensor=2 layout.sequence_parallel=true cuda.tensor_overlap=true",
        "cuda.tensor_overlap",
        None,
    ),
    "gathers of one data rank": (
        f"{NANO} cluster=dgx_h100 layout.data=1 layout.pipeline=2 layout.interleave=2 "
        "cuda.align_param_gather=true",
        "cuda.align_param_gather",
        None,
    ),
    "fp8 of a gradient's rows": (
        f"{GPU} precision=fp8 model.context=248 layout.micro_batch=1",
        "precision",
        None,
    ),
    "fp8 on the CPU": (f"{NANO} precision=fp8", "precision", None),
    "fp8 by local layers": (f"{GPU} precision=fp8 cuda.layers=local", "precision", None),
    "fp8 by DeepSpeed": (
        f"{GPU} engine.name=deepspeed layout.zero=1 precision=fp8",
        "precision",
        None,
    ),
    "fp8 of narrow layers": (
        f"{GPU} precision=fp8 model.hidden=96 layout.tensor=4",
        "precision",
        None,
    ),
    "fp8 of an odd MLP": (f"{GPU} precision=fp8 model.feed_forward=200", "precision", None),
    "fp8 of few tokens": (f"{GPU} precision=fp8 model.context=249", "precision", None),
    "annealing of a cosine": (
        f"{NANO} optimizer.annealing_tokens=4096",
        "optimizer.annealing_tokens",
        None,
    ),
    "annealing beyond the run": (
        f"{NANO} optimizer.schedule=wsd train.steps=20 optimizer.annealing_tokens=90000",
        "optimizer.annealing_tokens",
        None,
    ),
    "one rank too few": (f"{NANO} layout.data=null layout.tensor=4", "layout.tensor", 3),
    "too few for the pipeline": (
        f"{NANO} layout.data=null layout.pipeline=4",
        "layout.pipeline",
        2,
    ),
    "ranks left over": (f"{NANO} layout.data=null layout.pipeline=4", "layout.pipeline", 6),
    "no ranks": (f"{NANO} layout.data=null", "device", 0),
    "asked data not at hand": (f"{NANO} layout.data=4", "layout.data", 2),
    "asked pipeline not at hand": (f"{NANO} layout.pipeline=4", "layout.data", 2),
    "torchrun started too many": (f"{NANO} launch=torchrun layout.data=2", "layout.data", 4),
    "two nodes needed": (
        f"{DGX} model=gpt3_13b layout.tensor=8 layout.pipeline=2",
        "layout.pipeline",
        8,
    ),
    "cluster too small": (
        f"{DGX} {SMALL} layout.data=16 layout.micro_batch=1",
        "cluster.nodes",
        None,
    ),
    "tensor beyond a node": (
        f"{DGX} model=gpt3_13b layout.tensor=16 cluster.nodes=2 model.heads=64",
        "layout.tensor",
        16,
    ),
    "tensor group over two nodes": (
        f"{DGX} model=gpt3_125m layout.tensor=6 cluster.nodes=3 "
        "train.global_batch=240 optimizer.ramp_tokens=0",
        "layout.tensor",
        24,
    ),
    "zero alone": (f"{NANO} layout.zero=1", "layout.zero", None),
    "zero alone on a node": (
        f"{DGX} model=gpt3_6.7b layout.tensor=8 layout.zero=1",
        "layout.zero",
        8,
    ),
    "megatron zero 2": (f"{NANO} layout.data=2 layout.zero=2", "layout.zero", None),
    "megatron zero 3 with a pipeline": (
        f"{NANO} layout.data=2 layout.pipeline=2 layout.interleave=2 layout.zero=3",
        "layout.zero",
        None,
    ),
    "deepspeed zero 2 with a pipeline": (
        f"{DEEPSPEED} layout.data=2 layout.pipeline=2 layout.zero=2",
        "layout.zero",
        None,
    ),
    "deepspeed interleaved": (
        f"{DEEPSPEED} layout.pipeline=2 layout.interleave=2",
        "layout.interleave",
        None,
    ),
    "deepspeed cuts evenly": (
        f"{DEEPSPEED} layout.pipeline=2 layout.stage_layers=[3,1]",
        "layout.stage_layers",
        None,
    ),
    "stages of other layers": (
        f"{NANO} layout.pipeline=2 layout.stage_layers=[3,2]",
        "layout.stage_layers",
        None,
    ),
    "layers of other stages": (
        f"{NANO} layout.pipeline=2 layout.stage_layers=[2,1,1]",
        "layout.stage_layers",
        None,
    ),
    "a stage without a layer": (
        f"{NANO} layout.pipeline=2 layout.stage_layers=[4,0]",
        "layout.stage_layers",
        None,
    ),
    "uneven interleaved stages": (
        f"{NANO} layout.pipeline=2 layout.interleave=2 layout.stage_layers=[3,1]",
        "layout.stage_layers",
        None,
    ),
    "deepspeed half without zero": (
        f"{DEEPSPEED} layout.data=2 precision=bf16",
        "layout.zero",
        None,
    ),
    "offload under megatron": (
        f"{NANO} engine.offload_optimizer=true",
        "engine.offload_optimizer",
        None,
    ),
    "offload without zero": (
        f"{DEEPSPEED} engine.offload_optimizer=true",
        "engine.offload_optimizer",
        None,
    ),
    "muon on the host": (
        f"{DEEPSPEED} layout.zero=1 engine.offload_optimizer=true optimizer.name=muon",
        "optimizer.name",
        None,
    ),
    "dualpipev under megatron": (
        f"{NANO} layout.pipeline=2 layout.schedule=dualpipev layout.micro_batch=2",
        "layout.schedule",
        None,
    ),
    "dualpipev alone": (
        f"{DEEPSPEED} layout.schedule=dualpipev layout.micro_batch=2",
        "layout.schedule",
        None,
    ),
    "dualpipev over layers": (
        f"{DEEPSPEED} layout.pipeline=4 layout.schedule=dualpipev layout.micro_batch=1",
        "layout.pipeline",
        None,
    ),
    "dualpipev over micro-batches": (
        f"{DEEPSPEED} layout.pipeline=2 layout.schedule=dualpipev layout.micro_batch=8",
        "train.global_batch",
        None,
    ),
    "dualpipev over the ramp": (
        "model=gpt3_125m layout=single engine.name=deepspeed layout.pipeline=3 "
        "layout.schedule=dualpipev layout.micro_batch=4",
        "optimizer.ramp_start",
        None,
    ),
    "window beyond context": (f"{NANO} model.window=512", "model.window", None),
    "no window": (f"{NANO} model.attention=banded model.window=0", "model.window", None),
    "stop after the end": (f"{NANO} train.stop_after=201", "train.stop_after", None),
    "profile after the end": (f"{NANO} train.steps=5 profile.start=6", "profile.start", None),
    "decay within warm-up": (f"{NANO} optimizer.decay_tokens=50", "optimizer.decay_tokens", None),
    "nothing to evaluate": (f"{NANO} train.eval_batches=0", "train.eval_batches", None),
    "not a number": (f"{NANO} optimizer.learning_rate=.nan", "optimizer.learning_rate", None),
    "nodes of a job": (f"{NANO} launch.name=slurm", "cluster.gpus_per_node", None),
    "nodes that are strangers": (
        f"{NANO} launch.name=torchrun layout.data=2 cluster.gpus_per_node=1 cluster.nodes=2",
        "launch.address",
        2,
    ),
    "a node too many": (f"{NANO} launch.name=torchrun launch.node=1", "launch.node", 1),
    "more nodes than all": (
        f"{NANO} launch.elastic=true launch.min_nodes=3",
        "launch.min_nodes",
        None,
    ),
    "a signal nobody knows": (f"{NANO} launch.signal=SIGUSR2", "launch.signal", None),
    "a time that is none": (f"{SLURM} launch.time_limit=1day", "launch.time_limit", 1),
    "no time but for the end": (f"{SLURM} launch.time_limit=0:90", "launch.time_limit", 1),
    "a part of a node in a rack": (
        f"{NANO} cluster=dgx_a100 cluster.link_gpus=12",
        "cluster.link_gpus",
        None,
    ),
    "negative peak": (
        f"{NANO} cluster=dgx_a100 cluster.peak_tflops.bf16=-1",
        "cluster.peak_tflops",
        None,
    ),
    "expert ranks without experts": (
        f"{NANO} layout.data=2 layout.expert=2",
        "layout.expert",
        None,
    ),
    "expert tensor without experts": (
        f"{NANO} layout.data=2 layout.expert_tensor=2",
        "layout.expert_tensor",
        None,
    ),
    "experts over expert ranks": (
        f"{MOE} layout.data=3 layout.expert=3 train.global_batch=12",
        "layout.expert",
        None,
    ),
    "expert ranks over ranks": (f"{MOE} layout.data=2 layout.expert=4", "layout.expert", None),
    "channels of an expert": (
        f"{MOE} layout.data=3 layout.expert_tensor=3 train.global_batch=12",
        "layout.expert_tensor",
        None,
    ),
    "channels of the shared expert": (
        f"{MOE} layout.tensor=2 layout.sequence_parallel=true model.moe.shared=33",
        "layout.tensor",
        None,
    ),
    "experts of whole sequences": (f"{MOE} layout.tensor=2", "layout.sequence_parallel", None),
    "a way to no other expert rank": (
        f"{MOE} layout.expert_by=all_gather",
        "layout.expert_by",
        None,
    ),
    "more choices than experts": (f"{MOE} model.moe.top_k=17", "model.moe.top_k", None),
    "dense layers without others": (
        f"{NANO} model.moe.dense_layers=1",
        "model.moe.dense_layers",
        None,
    ),
    "no layer with experts": (f"{MOE} model.moe.dense_layers=4", "model.moe.dense_layers", None),
    "experts with biases": (f"{MOE} model.biases=all", "model.biases", None),
    "experts beside attention": (f"{MOE} model.residual=parallel", "model.residual", None),
    "weights that add up to 1": (
        f"{MOE} model.moe.score=softmax_chosen model.moe.renormalise=false",
        "model.moe.renormalise",
        None,
    ),
    "graphs of experts": (f"{MOE} cluster=dgx_h100 cuda.graphs=true", "cuda.graphs", None),
    "experts in fp16": (f"{MOE} precision=fp16", "precision", None),
    "experts by Muon": (f"{MOE} optimizer=muon", "optimizer.name", None),
    "experts of ZeRO 3": (
        f"{MOE} engine.name=deepspeed layout.data=2 layout.zero=3",
        "layout.zero",
        None,
    ),
    "experts in DeepSpeed's pipeline": (
        f"{MOE} engine.name=deepspeed layout.pipeline=2 layout.micro_batch=4",
        "layout.pipeline",
        None,
    ),
}
