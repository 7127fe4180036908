"""Ready station files for simulated microscopes."""
