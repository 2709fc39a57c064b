"""Training steps to compare: ours, HF's, and the packages that others published."""
