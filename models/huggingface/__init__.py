"""Hugging Face's formats: families of models as tables of keys and names, and parts of weights.

Imports models.
Imported by launcher.
"""
