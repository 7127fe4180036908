"""What is run for the pictures: an experiment with every kind of step that looks different."""

from __future__ import annotations

from importlib import resources

STORY = """\
# Heats until particles are there, asks, takes a line and a map of spectra, and cools.
hotstage: 1
name: Ni exsolution, line and map
specimen: {id: LSNT-01, description: La0.2Sr0.7Ni0.1Ti0.9O3-δ 60 nm film on a MEMS heating chip}

limits: {temperature: 900 °C, ramp_rate: 100 °C/s, dose: 5e8 e/nm², run_time: 1 h}
safe_state: {heater: {cool: {to: 25 °C, rate: 100 °C/s}}, beam: blanked}

record: # throughout the run, beside the steps
  overview:
    scan: {detectors: [haadf, abf], size: 512, field_of_view: 160 nm, dwell_time: 3 µs}
    every: 1 s
  chip: {holder: {every: 200 ms}}

estimate: # live, from the recorded images
  particles: {from: overview.haadf}
  drift: {from: overview.haadf, correct: scan_shift}
  eels: {from: map.core_loss}

steps:
  - mark: fresh film, before heating
  - ramp: {to: 700 °C, rate: 10 °C/s}
  - hold: {for: 8 min}
  - wait_for_operator: Is the boundary still in the field?
  - line_scan:
      from: [40 nm, 80 nm]
      to: [120 nm, 80 nm]
      points: 40
      spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 1 s, dual: true}
  - spectrum_image:
      name: map
      from: [60 nm, 60 nm]
      to: [100 nm, 100 nm]
      shape: [14, 14]
      spectra: {range: [400 eV, 600 eV], dispersion: 0.1 eV, dwell_time: 0.25 s, dual: true}
  - ramp: {to: 25 °C, rate: 50 °C/s}
"""
AGAIN = """\
# The same film, hotter and shorter.
hotstage: 1
name: Ni exsolution, hotter
limits: {temperature: 900 °C, ramp_rate: 100 °C/s, dose: 5e8 e/nm², run_time: 1 h}
record:
  overview:
    scan: {detectors: [haadf], size: 256, field_of_view: 160 nm, dwell_time: 3 µs}
    every: 2 s
  chip: {holder: {every: 500 ms}}
estimate:
  particles: {from: overview.haadf}
steps:
  - ramp: {to: 800 °C, rate: 20 °C/s}
  - hold: {for: 1 min}
  - ramp: {to: 25 °C, rate: 50 °C/s}
"""
TOO_HOT = STORY.replace("ramp: {to: 700 °C, rate: 10 °C/s}", "ramp: {to: 950 °C, rate: 10 °C/s}")
"""Above the recipe's own limit."""


def narrow_station() -> str:
    """The simulated station, with so small a deviation allowed that a fast ramp trips the heater."""
    text = resources.files("simulators").joinpath("stations/simulated.toml").read_text("utf-8")
    text = text.replace('deviation = "50 °C"', 'deviation = "0.4 °C"')
    text = text.replace('deviation_time = "5 s"', 'deviation_time = "50 ms"')
    # slow enough for the guard to look twice during the fast ramp
    return text.replace("clock_rate = 10 ", "clock_rate = 3 ")
