"""What things cost, measured as ratios; each module prints one table.

Imports corpus, evals, launcher, models, parallel.
Imported by benchmarks.checkpoint, benchmarks.corpus, benchmarks.trainers.
"""
