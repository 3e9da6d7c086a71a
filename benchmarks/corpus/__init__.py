"""Preparing and decontaminating text beside other programs.

Imports benchmarks, corpus, launcher.
Imported by nothing.
"""
