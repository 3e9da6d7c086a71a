"""What a terminal shows: tables, progress bars, the commands to go on with.

Imports corpus, evals, launcher.run, models, parallel.
Imported by launcher, launcher.commands, launcher.start.
"""
