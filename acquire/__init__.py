"""hotstage: in-situ heating experiments in a scanning transmission electron microscope."""
