"""Numbers from frames: pure functions on arrays, and thin estimators that hold state between frames."""
