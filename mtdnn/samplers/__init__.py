"""Whose turn it is: the order of tasks in an epoch, one file a sampler."""
