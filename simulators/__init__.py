"""The far ends: a specimen, the physics of its images and spectra, and instruments that answer for hardware."""
