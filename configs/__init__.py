"""The settings of a run: Hydra's group files, the frozen dataclasses they become, and the few
things that every package needs: errors, wording, atomic writes.

Imports configs.settings.
Imported by everything.
"""
