"""A rank's device and process groups, and the bridge that runs CUDA code on a CPU.

Imports parallel.
Imported by evals, launcher, parallel.engines, parallel.engines.deepspeed,
parallel.engines.megatron, parallel.inference, parallel.planner.trace.
"""
