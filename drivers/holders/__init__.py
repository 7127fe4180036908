"""Drivers of heating holders."""
