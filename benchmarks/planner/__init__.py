"""Fitting the planner's constants, and how near its plans are to published runs.

Imports launcher, models, parallel.
Imported by nothing.
"""
