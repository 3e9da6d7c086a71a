"""How a run starts: the command line, the ranks, the training loop."""
