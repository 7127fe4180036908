"""The panels of the window: each draws one part of what the session holds."""
