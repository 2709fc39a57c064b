"""What the losses of a micro-batch are, one file an objective; a run has exactly one."""
