"""What every rank of the pool imports, imported once in the process they are forked from."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import parallel.checkpoint
    import parallel.groups
    import parallel.megatron_engine  # noqa: F401
