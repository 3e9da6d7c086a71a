"""What `phalanx doctor` tries on CUDA, in a process of its own, and how it reads the answers.

Imports models, parallel.
Imported by launcher.commands, launcher.machine.
"""
