"""Example of a package with a driver for hotstage: a heater with a line protocol, and its simulator."""
