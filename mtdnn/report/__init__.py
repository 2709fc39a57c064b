"""results.json -> tables."""
