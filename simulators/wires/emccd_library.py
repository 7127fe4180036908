"""The functions of DigitalMicrograph that scripts can call here, over the simulated microscope.

Names, arguments and effects: D. Mitchell's public stand-in for the DigiScan library (``DS…``), public
DM scripts (``EM…``, ``IF…``, ``IFC…``), and what SerialEM and Leginon send. Not verified [I]: units of
calibrated beam shifts and fields of view (nm here), that the finest dispersion has number 0. From
memory [M]: ``EMGetBeamBlanked``. Nothing else of DigitalMicrograph exists.
"""

from __future__ import annotations

import logging

from acquire.clock import Signal
from simulators.wires.emccd_digiscan import LONGEST_PIXEL_US, SHORTEST_PIXEL_US, DigiScan
from simulators.wires.emccd_optics import SAFE_DS, SLIT_LIMITS_EV, EnergyFilter, Optics
from simulators.wires.emccd_values import (
    Callee,
    Image,
    Library,
    Reference,
    ScriptError,
    Tags,
    Value,
)

logger = logging.getLogger(__name__)

DM_VERSION = (3, 43, 3213)
"""Of the Microscopy Suite that the far end takes itself for."""
DEVICE = "DigiScan"
TICKS_PER_S = 60.0
"""``Delay`` counts these."""
LONGEST_DELAY_S = 60.0


def library(
    optics: Optics, digiscan: DigiScan, energy_filter: EnergyFilter, stop: Signal
) -> Library:
    """All functions, by name in lower case.

    Args:
        optics: of the column.
        digiscan: of the scan.
        energy_filter: of the spectrometer.
        stop: raised when the far end ends, so that no script waits on.
    """
    functions: dict[str, list[Callee]] = {}
    for name, callee in [
        *_of_column(optics),
        *_of_digiscan(optics, digiscan),
        *_of_filter(energy_filter, stop),
        *_of_dm(stop),
    ]:
        functions.setdefault(name.lower(), []).append(callee)
    functions["doesfunctionexist"] = [
        Callee(("string",), lambda name: float(str(name).lower() in functions))
    ]
    return functions


def _of_column(optics: Optics) -> list[tuple[str, Callee]]:
    column = optics.world.column

    def get_shift(x: Reference, y: Reference) -> None:
        for into, value in zip((x, y), optics.shift(), strict=True):
            into.set(value)

    def change_shift(dx: float, dy: float) -> None:
        x, y = optics.shift()
        optics.set_shift(x + dx, y + dy)

    def field_of_view(device: str, tags: Tags, into: Reference, options: float) -> Value:
        if device != DEVICE:
            raise ScriptError(f"there is no device {device!r}")
        into.set(optics.field_nm)
        return 1.0

    return [
        ("EMHasBeamBlanker", Callee((), lambda: 1.0)),
        ("EMSetBeamBlanked", Callee(("number",), lambda on: column.blank(on != 0))),
        ("EMGetBeamBlanked", Callee((), lambda: float(column.blanked()))),
        ("EMGetMagnification", Callee((), lambda: optics.magnification)),
        ("EMSetMagnification", Callee(("number",), optics.magnify)),
        ("EMGetCalibrationStateTags", Callee((), Tags)),
        (
            "EMGetCalibratedFieldOfView",
            Callee(("string", "tags", "&number", "number"), field_of_view),
        ),
        ("EMGetCalibratedBeamShift", Callee(("&number", "&number"), get_shift)),
        ("EMSetCalibratedBeamShift", Callee(("number", "number"), optics.set_shift)),
        ("EMChangeCalibratedBeamShift", Callee(("number", "number"), change_shift)),
        ("EMGetHighTension", Callee((), lambda: 1e3 * column.beam.energy_kev)),
        ("EMCanGetHighTension", Callee((), lambda: 1.0)),
        ("EMCanGetMagnification", Callee((), lambda: 1.0)),
        ("EMIsReady", Callee((), lambda: 1.0)),
        ("EMWaitUntilReady", Callee((), lambda: None)),
        ("EMGetMicroscopeName", Callee((), lambda: "simulated column")),
        ("EMGetOperationMode", Callee((), lambda: "SCANNING")),
    ]


def _of_digiscan(optics: Optics, digiscan: DigiScan) -> list[tuple[str, Callee]]:
    def get_beam(x: Reference, y: Reference) -> None:
        for into, value in zip((x, y), optics.beam_ds(), strict=True):
            into.set(value)

    def from_image(image: Image, x: float, y: float, ds_x: Reference, ds_y: Reference) -> None:
        at = optics.to_ds(x, y, image.width, image.height, image.rotation_deg)
        for into, value in zip((ds_x, ds_y), at, strict=True):
            into.set(value)

    def to_image(image: Image, x: float, y: float, img_x: Reference, img_y: Reference) -> None:
        at = optics.from_ds(x, y, image.width, image.height, image.rotation_deg)
        for into, value in zip((img_x, img_y), at, strict=True):
            into.set(value)

    def position(image: Image, x: float, y: float) -> None:
        at = optics.to_ds(x, y, image.width, image.height, image.rotation_deg)
        optics.put_beam_ds(*at)

    def named(into: Reference, name: str) -> Value:
        image = digiscan.named(name)
        if image is None:
            return 0.0
        into.set(image)
        return 1.0

    def signal_name(index: float) -> str:
        if index not in range(len(digiscan.channels)):
            raise ScriptError(f"there is no signal {index:g}")
        return digiscan.channels[int(index)]

    def shortest_pixel(depth: float, signals: float) -> float:
        if depth not in (1, 2, 4):
            raise ScriptError(f"data of {depth:g} bytes")
        return SHORTEST_PIXEL_US

    return [
        ("DSGetDeviceLocation", Callee((), lambda: DEVICE)),
        ("DSCountSignals", Callee((), lambda: float(len(digiscan.channels)))),
        ("DSGetSignalName", Callee(("number",), signal_name)),
        ("DSGetFlyBackTime", Callee((), lambda: digiscan.flyback_us)),
        ("DSGetLineFrequency", Callee((), lambda: digiscan.line_frequency_hz)),
        ("DSGetRotationOffset", Callee((), lambda: 0.0)),
        ("DSGetRotation", Callee((), lambda: 0.0)),
        ("DSGetDoFlip", Callee((), lambda: 0.0)),
        ("DSGetMinPixelTime", Callee(("number", "number"), shortest_pixel)),
        ("DSGetMaxPixelTime", Callee((), lambda: LONGEST_PIXEL_US)),
        ("DSIsAcquisitionActive", Callee((), lambda: float(digiscan.active()))),
        ("DSIsViewActive", Callee((), lambda: float(digiscan.active()))),
        ("DSFinishAcquisition", Callee((), digiscan.finish)),
        ("DSStopAcquisition", Callee(("number",), lambda which: digiscan.halt())),
        ("DSWaitUntilFinished", Callee((), digiscan.wait)),
        ("DSHasScanControl", Callee((), lambda: float(optics.scan_control))),
        ("DSSetScanControl", Callee(("number",), lambda on: optics.take_scan_control(on != 0))),
        ("DSGetBeamDSPosition", Callee(("&number", "&number"), get_beam)),
        ("DSSetBeamDSPosition", Callee(("number", "number"), optics.put_beam_ds)),
        ("DSSetBeamToSafePosition", Callee((), lambda: optics.put_beam_ds(*SAFE_DS))),
        ("DSPositionBeam", Callee(("image", "number", "number"), position)),
        (
            "DSCalcDSCoordFromImage",
            Callee(("image", "number", "number", "&number", "&number"), from_image),
        ),
        (
            "DSCalcImageCoordFromDS",
            Callee(("image", "number", "number", "&number", "&number"), to_image),
        ),
        ("DSGetLastAcquiredImage", Callee(("number",), digiscan.last)),
        ("DSGetLastAcquiredImageID", Callee(("number",), lambda n: float(digiscan.last(n).id))),
        ("GetNamedImage", Callee(("&image", "string"), named)),
        ("GetImageID", Callee(("image",), lambda image: float(image.id))),
    ]


def _of_filter(energy_filter: EnergyFilter, stop: Signal) -> list[tuple[str, Callee]]:
    def set_slit_in(inside: float) -> None:
        energy_filter.slit_in = inside != 0

    def wait() -> None:
        stop.wait(energy_filter.settle_left_s())

    def centre() -> Value:
        energy_filter.centre()
        return 1.0

    return [
        ("IFGetEnergyLoss", Callee((), lambda: energy_filter.energy_loss_ev)),
        ("IFGetEnergyLoss", Callee(("number",), lambda which: energy_filter.energy_loss_ev)),
        ("IFSetEnergyLoss", Callee(("number",), energy_filter.set_energy_loss)),
        ("IFWaitForFilter", Callee((), wait)),
        ("IFGetSlitIn", Callee((), lambda: float(energy_filter.slit_in))),
        ("IFSetSlitIn", Callee(("number",), set_slit_in)),
        ("IFGetSlitWidth", Callee((), lambda: energy_filter.slit_width_ev)),
        ("IFSetSlitWidth", Callee(("number",), energy_filter.set_slit_width)),
        ("IFGetMaximumSlitWidth", Callee((), lambda: SLIT_LIMITS_EV[1])),
        ("GT_CenterZLP", Callee((), centre)),
        ("IFCGetNumberofDispersions", Callee((), lambda: float(len(energy_filter.dispersions_ev)))),
        ("IFCGetActiveDispersion", Callee((), lambda: float(energy_filter.dispersion))),
        ("IFCSetActiveDispersions", Callee(("number",), energy_filter.set_dispersion)),
        ("IFGetActiveDispersion", Callee((), lambda: energy_filter.dispersion_ev)),
    ]


def _of_dm(stop: Signal) -> list[tuple[str, Callee]]:
    def version(major: Reference, minor: Reference, build: Reference) -> None:
        for into, value in zip((major, minor, build), DM_VERSION, strict=True):
            into.set(float(value))

    def sleep(seconds: float) -> None:
        if not 0 <= seconds <= LONGEST_DELAY_S:
            raise ScriptError(f"a delay of {seconds:g} s")
        stop.wait(seconds)

    def result(text: str) -> None:
        logger.info("DigitalMicrograph: %s", text.strip()[:200])

    return [
        ("GetApplicationVersion", Callee(("&number", "&number", "&number"), version)),
        ("Delay", Callee(("number",), lambda ticks: sleep(ticks / TICKS_PER_S))),
        ("Sleep", Callee(("number",), sleep)),
        ("Result", Callee(("string",), result)),
    ]
