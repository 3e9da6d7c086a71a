"""What every rank of the pool imports, imported once in the process they are forked from."""

import warnings

from parallel.runtime import cpu_bridge

cpu_bridge.install()  # before DeepSpeed, which notes what it finds in torch when it is imported

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
