"""The papers' analyses: what a method does, looked at instead of scored. One analysis a file."""
