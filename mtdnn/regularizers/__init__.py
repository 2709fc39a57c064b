"""Weighted terms beside the task loss, one file a method; a run has any number."""
