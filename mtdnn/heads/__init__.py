"""Everything that differs between kinds of task, one file a kind."""
