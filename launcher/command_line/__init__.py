"""The words of a command line: flags and settings, help, mistakes explained in a line.

Imports launcher.run.
Imported by launcher, launcher.commands.
"""
