"""Statistics that know nothing of models: ranking, resampling, paired tests, shares."""
