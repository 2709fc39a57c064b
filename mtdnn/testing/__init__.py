"""Public helpers for tests and the quickstart: a generated corpus and a tiny encoder."""
