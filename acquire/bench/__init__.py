"""Measurements of hotstage itself: how fast its store is, and what it survives."""
