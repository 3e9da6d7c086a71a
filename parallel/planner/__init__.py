"""The dry run: what a layout costs in memory, traffic, time and money, before anything is queued.

Imports no torch but in the trace, which executes the engines' own code.
"""
