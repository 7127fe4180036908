"""Pictures of the window in its main states, on a real engine host: ``python -m gui.pictures OUT``."""
