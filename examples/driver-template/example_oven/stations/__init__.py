"""Station files with the example oven."""
