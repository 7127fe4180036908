"""What runs inside Gatan's Microscopy Suite: :mod:`drivers.gms.server`, a script of its own."""
