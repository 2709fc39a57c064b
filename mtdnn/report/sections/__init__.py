"""The parts of a report, one a file; each is a function of the study."""
