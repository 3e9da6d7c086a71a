"""How a model is laid over ranks: the Layout, its rules, devices, engines and checkpoints."""
