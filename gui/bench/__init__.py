"""The bench of the window; its children must start as quickly as a window does, so nothing is imported here."""
