"""What ranks and commands of the tests import, once, in the process that they are forked from."""

import gc
import importlib
import warnings

from parallel.runtime import cpu_bridge

cpu_bridge.install()  # before DeepSpeed, which notes what it finds in torch when it is imported

NAMES = (
    *("parallel.checkpoint.store", "parallel.engines.deepspeed.engine"),
    *("parallel.engines.megatron.engine", "parallel.runtime.process_groups"),
    *("launcher.cli", "launcher.commands.train", "launcher.training.trainer"),
    *("launcher.training.callbacks.tensorboard", "launcher.training.figures.loss_curve"),
    *("torch.distributed.launcher.api", "hydra", "matplotlib.figure"),
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name in NAMES:
        importlib.import_module(name)

# A collection of garbage passes over what was imported otherwise: a third of a second, in each of
# eight ranks after each job.
gc.collect()
gc.freeze()
