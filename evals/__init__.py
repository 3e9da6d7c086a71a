"""Model evaluation: few-shot tasks, their scores, and how loss scales with size.

Imports corpus, models, parallel.
Imported by launcher.
"""
