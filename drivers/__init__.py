"""Drivers: one file per interface of a real instrument; each speaks a real wire and knows no simulator."""
