"""Drivers of devices that tell scalars."""
