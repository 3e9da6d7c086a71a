"""What things cost, measured as ratios; each module prints one table."""
