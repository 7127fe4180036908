"""Drivers of scan generators with their detectors."""
