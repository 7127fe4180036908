"""The published critical diameter comes out of simulated images alone, through the live estimator."""

from __future__ import annotations

from simulators.specimen.critical import measured_critical


def test_the_critical_diameter_is_measured_from_images_of_single_particles() -> None:
    found = measured_critical("lsnt_nonstoichiometric", seeds=(1,), fields=4)
    assert found.flags == ()
    assert found.particles >= 4
    assert 3.75 <= found.diameter_nm <= 3.91
    assert 0.01 < found.sigma_nm < 0.08
    assert 0.2 < found.share_below < 0.8, "below it crystals come and go"
