"""What a run may be set to: Hydra's group files, the frozen dataclasses they become, and the few
things that every package needs: errors, wording, files written in one rename.

Imports nothing of ours.
Imported by everything.
"""
