"""Terminal output: tables, progress bars, suggested next commands.

Imports corpus, evals, launcher.machine, launcher.run, models, parallel.
Imported by launcher, launcher.commands, launcher.planning, launcher.start.
"""
