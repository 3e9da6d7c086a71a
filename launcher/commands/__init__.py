"""One file per `phalanx COMMAND`: its checks, actions and output.

Imports corpus, evals, launcher.command_line, launcher.console, launcher.doctor, launcher.failure,
launcher.huggingface, launcher.inference, launcher.machine, launcher.planning, launcher.run,
launcher.start, launcher.training, models, parallel, slurm.
Imported by launcher.
"""
