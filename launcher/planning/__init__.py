"""Parts of `phalanx plan` beside the plan itself: searches, also for goals, and constants fitted to
runs of one's own.

Imports launcher.command_line, launcher.console, launcher.run, models, parallel.
Imported by launcher.commands.
"""
