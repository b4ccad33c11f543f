"""Contract suites for the authors of families and trainers."""
