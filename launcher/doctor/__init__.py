"""What `phalanx doctor` tries on CUDA, in a process of its own, and how it reads the answers.

Imports nothing of ours but configs.
Imported by launcher.commands.
"""
