"""What a model can do: few-shot tasks, their scores, and how loss falls with size."""
