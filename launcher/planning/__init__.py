"""What `phalanx plan` searches for.

Imports parallel.
Imported by launcher.commands.
"""
