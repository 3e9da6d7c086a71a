"""What the network is: its shape, its layers, how its weights begin, what it costs."""
