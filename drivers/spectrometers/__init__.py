"""Drivers of EELS spectrometers."""
