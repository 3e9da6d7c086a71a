"""What a model can do: few-shot tasks, their scores, and how loss falls with size.

Imports corpus, models, parallel.
Imported by launcher.
"""
