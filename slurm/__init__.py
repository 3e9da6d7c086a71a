"""What SLURM is told: the batch script, its submission, and whether a job is begun again."""
