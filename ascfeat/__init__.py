"""Audio to feature stores: datasets, representations, extraction and the stores themselves."""
