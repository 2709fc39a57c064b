"""(predictions, targets) -> float, under the field's standard names; one file a family."""
