"""Contract suites for the authors of datasets and representations."""
