"""What any instrument must pass, be it a driver, a simulator or a remote proxy, as plain checks.

:mod:`drivers.conformance.suite` has these and all that a driver must do when its link fails, as classes
for a test file; see docs/writing-a-driver.md.

Each check raises AssertionError with advice. The calling thread must be a task of the clock
(``with clock.enrolled(...)``). The holder is heated to about 200 °C and left off; the beam is left
as it was found. Passing on a simulator is not a validation of hardware.
"""

from drivers.conformance.acquisitions import check_scan, check_spectrometer
from drivers.conformance.common import check_description
from drivers.conformance.holder import check_holder

__all__ = ["check_description", "check_holder", "check_scan", "check_spectrometer"]
