"""The machine at hand as a cluster to plan for: what SLURM or the driver says that it has.

Imports launcher.doctor, parallel, slurm.
Imported by launcher.commands, launcher.console.
"""
