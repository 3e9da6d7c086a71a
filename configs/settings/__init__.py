"""Parts of the schema: the network, the text, inference, plans and machines, what runs on CUDA.

Imports nothing of ours.
Imported by everything.
"""
