"""The run's configuration: Hydra group files beside this one, and the frozen dataclasses they become."""
