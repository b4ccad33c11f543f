"""Feature stores to reports: model families, trainers, evaluation."""
