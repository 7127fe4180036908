"""The same kind of experiment as a Python script, which decides by what it sees.

Run it with `python examples/scripts/first_light.py OUTPUT_FOLDER`.
"""

import sys

import acquire

RECIPE = acquire.Recipe.parse(
    """
hotstage: 1
name: Ni exsolution, stepwise
specimen: {id: LSNT-01}
limits: {temperature: 900 °C, ramp_rate: 100 °C/s, dose: 2e9 e/nm², run_time: 1 h}
record:
  overview:
    scan: {detectors: [haadf], size: 256, field_of_view: 120 nm, dwell_time: 4 µs}
    every: 2 s
estimate:
  particles: {from: overview.haadf}
"""
)


def experiment() -> acquire.Plan:
    """Heat in steps until particles are seen, then take a spectrum of the field's centre."""
    for temperature in ("600 °C", "700 °C", "750 °C", "800 °C"):
        yield acquire.ramp(to=temperature, rate="20 °C/s")
        outcome = yield acquire.hold("60 s", until="count >= 5 for 2 frames")
        if outcome.met:
            yield acquire.mark(f"particles appeared at {temperature}")
            break
    yield acquire.spectrum(
        at=("60 nm", "60 nm"),
        spectra={"range": ["400 eV", "600 eV"], "dispersion": "0.1 eV", "dwell_time": "1 s"},
    )
    yield acquire.ramp(to="25 °C", rate="100 °C/s")


def main(folder: str) -> None:
    """Run the experiment on the simulated station and say what came out."""
    with acquire.connect(acquire.Station.load("simulated")) as station:
        run = acquire.run_experiment(RECIPE, station, folder, experiment)
    sizes = run.estimates("particles")["mean_diameter"]
    print(f"{sizes.sizes['time']} estimates; the last mean diameter is {float(sizes[-1]):.2f} nm")


if __name__ == "__main__":
    main(*sys.argv[1:])
