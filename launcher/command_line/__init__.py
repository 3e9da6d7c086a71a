"""Command-line arguments: flags and settings, help, one-line explanations of mistakes.

Imports launcher.run.
Imported by launcher, launcher.commands, launcher.planning.
"""
