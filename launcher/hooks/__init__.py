"""What happens around the steps of a training loop, one concern a file."""
