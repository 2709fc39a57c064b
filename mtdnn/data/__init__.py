"""From a task definition to batches: rows -> checked units -> tokenised Arrow -> batches."""
