"""What a run may be set to: Hydra's group files, and the frozen dataclasses they become."""
