"""The SerialEMCCD plugin: what every function of the socket does with scan, camera and scripts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquire.clock import Signal
from simulators.wires.emccd_camera import GifCamera, Shot
from simulators.wires.emccd_digiscan import DigiScan, Ending, Failed
from simulators.wires.emccd_library import DM_VERSION
from simulators.wires.emccd_packets import (
    PLUGIN_VERSION,
    BadPacket,
    Failure,
    Function,
    Refusal,
    Reply,
    Request,
)
from simulators.wires.emccd_scripts import execute
from simulators.wires.emccd_values import Library, ScriptError

logger = logging.getLogger(__name__)

SCRIPT_ERROR_RETURN = -999.0
CLIENT_SCRIPT_ERROR = 25
Counts = NDArray[np.integer[Any]]
"""Of 16 bits, with or without sign."""
MOST_PIXELS = 1 << 27
"""A client that asks for room for more pixels gets the plugin's memory error."""


class Plugin:
    """Carries out one call at a time; whoever calls holds a lock.

    Args:
        digiscan: the scan.
        camera: camera number 0.
        functions: of DigitalMicrograph.
        closing: raised when the far end ends.
    """

    def __init__(
        self, digiscan: DigiScan, camera: GifCamera, functions: Library, closing: Signal
    ) -> None:
        self._digiscan = digiscan
        self._camera = camera
        self._functions = functions
        self.closing = closing
        self._queue = ""
        self._last_value = 0
        self._calls: dict[Function, Callable[[Request], Reply]] = {
            Function.EXECUTE_SCRIPT: self._execute_script,
            Function.QUEUE_SCRIPT: self._queue_script,
            Function.GET_ACQUIRED_IMAGE: self._get_acquired_image,
            Function.GET_DARK_REFERENCE: self._get_dark_reference,
            Function.SELECT_CAMERA: self._select_camera,
            Function.SET_CURRENT_CAMERA: lambda request: Reply(),
            Function.GET_NUMBER_OF_CAMERAS: lambda request: Reply(longs=(1,)),
            Function.IS_CAMERA_INSERTED: self._is_camera_inserted,
            Function.INSERT_CAMERA: self._insert_camera,
            Function.GET_DM_VERSION: lambda request: Reply(longs=(_plugin_version(),)),
            Function.GET_DM_VERSION_AND_BUILD: lambda request: Reply(
                longs=(_plugin_version(), DM_VERSION[2])
            ),
            Function.GET_DM_CAPABILITIES: lambda request: Reply(bools=(True, True, True)),
            Function.GET_DS_PROPERTIES: self._get_ds_properties,
            Function.ACQUIRE_DS_IMAGE: self._acquire_ds_image,
            Function.RETURN_DS_CHANNEL: self._return_ds_channel,
            Function.STOP_DS_ACQUISITION: self._stop_ds_acquisition,
            Function.GET_PLUGIN_VERSION: lambda request: Reply(longs=(PLUGIN_VERSION,)),
            Function.GET_LAST_ERROR: lambda request: Reply(longs=(self._last_value,)),
            Function.RETURN_DEFERRED_SUM: lambda request: Reply(Failure.NO_DEFERRED_SUM),
            Function.IS_GPU_AVAILABLE: lambda request: Reply(longs=(0,)),
            Function.GET_LAST_DOSE_RATE: lambda request: Reply(),
            Function.WAIT_UNTIL_READY: lambda request: Reply(),
            Function.SET_DEBUG_MODE: lambda request: Reply(),
            Function.SET_DM_VERSION: lambda request: Reply(),
            Function.SET_READ_MODE: lambda request: Reply(),
            Function.SET_SHUTTER_NORMALLY_CLOSED: lambda request: Reply(),
            Function.SET_NO_DM_SETTLING: lambda request: Reply(),
            Function.STOP_CONTINUOUS_CAMERA: lambda request: Reply(),
        }

    def call(self, request: Request) -> Reply:
        """Carry out a call; whatever goes wrong is in the reply.

        Functions of counting cameras, of saving and of aligning fail: the camera here is none of
        those.
        """
        call = self._calls.get(request.function, _not_simulated)
        try:
            reply = call(request)
        except Failed as error:
            _log(request, error)
            reply = Reply(error.failure)
        except BadPacket as error:
            return Reply(error.refusal)
        except Exception:
            logger.exception("%s failed", request.function.name)
            return Reply(Refusal.EXCEPTION)
        if request.function is Function.EXECUTE_SCRIPT:
            # so it is in the plugin, whether the script failed or not
            self._last_value = CLIENT_SCRIPT_ERROR
        elif request.function is not Function.GET_LAST_ERROR:
            self._last_value = reply.value
        return reply

    # ------------------------------------------------------------------------- scripts

    def _execute_script(self, request: Request) -> Reply:
        # request.bools[0] asks that the current camera be selected first: there is one only
        value = self._run(request.text)
        failed = value == SCRIPT_ERROR_RETURN
        return Reply(Failure.SCRIPT if failed else 0, doubles=(value,))

    def _queue_script(self, request: Request) -> Reply:
        self._queue = (self._queue + request.text + "\n")[-MOST_PIXELS:]
        return Reply()

    def _run(self, text: str) -> float:
        try:
            return execute(text, self._functions)
        except ScriptError as error:
            logger.warning("script failed: %s: %s", text[:200], error)
            return SCRIPT_ERROR_RETURN

    # -------------------------------------------------------------------------- camera

    def _get_acquired_image(self, request: Request) -> Reply:
        processing, binning, top, left, bottom, right = request.longs[3:9]
        if processing > 7:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, "continuous exposures are not simulated")
        queued, self._queue = self._queue, ""
        if queued and self._run(queued) == SCRIPT_ERROR_RETURN:
            raise Failed(Failure.GENERAL_SCRIPT_ERROR, "a queued script failed")
        return self._shoot(
            request,
            Shot(
                exposure_s=request.doubles[0],
                binning=binning,
                top=top,
                left=left,
                bottom=bottom,
                right=right,
                processing=processing,
                halved=request.longs[11] > 0,
            ),
        )

    def _get_dark_reference(self, request: Request) -> Reply:
        binning, top, left, bottom, right = request.longs[3:8]
        return self._shoot(
            request,
            Shot(
                exposure_s=request.doubles[0],
                binning=binning,
                top=top,
                left=left,
                bottom=bottom,
                right=right,
                processing=0,
                halved=request.longs[9] > 0,
                shutter_closed=True,
            ),
        )

    def _shoot(self, request: Request, shot: Shot) -> Reply:
        _room(request)
        return _image(request, self._camera.take(shot, self.closing))

    def _select_camera(self, request: Request) -> Reply:
        _camera(request)
        return Reply()

    def _is_camera_inserted(self, request: Request) -> Reply:
        if request.longs[0] != 0:
            return Reply(Failure.SCRIPT)
        return Reply(bools=(self._camera.inserted,))

    def _insert_camera(self, request: Request) -> Reply:
        _camera(request)
        self._camera.inserted = request.bools[0]
        return Reply()

    # ------------------------------------------------------------------------ DigiScan

    def _get_ds_properties(self, request: Request) -> Reply:
        extra_flyback_us, margin_us = request.doubles
        digiscan = self._digiscan
        digiscan.prepare(extra_flyback_us, margin_us)
        return Reply(longs=(0,), doubles=(digiscan.flyback_us, digiscan.line_frequency_hz, 0.0))

    def _acquire_ds_image(self, request: Request) -> Reply:
        room, columns, rows, flags, continuous, _, _ = request.longs
        rotation_deg, pixel_us = request.doubles
        _room(request)
        if columns <= 0 or rows <= 0 or (continuous > 0 and columns * rows > room):
            raise BadPacket(Refusal.EXCEPTION)
        try:
            image = self._digiscan.acquire(
                (rows, columns),
                rotation_deg,
                pixel_us,
                Ending(flags & 31),
                continuous,
                request.numbers,
            )
        except Failed as error:
            return self._failed_image(request, error)
        if image is None:  # it has begun; the plugin sends an empty image of the size asked for
            nothing = np.zeros(room, np.uint16)
            return Reply(longs=(room, columns, rows, 0), image=_bytes(nothing))
        return _image(request, _halved(image, request.longs[5]))

    def _return_ds_channel(self, request: Request) -> Reply:
        _room(request)
        try:
            image = self._digiscan.fetch(request.longs[3])
        except Failed as error:
            return self._failed_image(request, error)
        return _image(request, _halved(image, request.longs[4]))

    def _stop_ds_acquisition(self, request: Request) -> Reply:
        self._digiscan.stop()
        return Reply()

    def _failed_image(self, request: Request, error: Failed) -> Reply:
        _log(request, error)
        room, columns, rows = request.longs[:3]
        if error.failure is Failure.GENERAL_SCRIPT_ERROR:
            room = 0
        return Reply(error.failure, longs=(room, columns, rows, 0))


def with_chunks(reply: Reply, number: int) -> Reply:
    """An image's reply that says in how many chunks it comes, in the last of its numbers."""
    return replace(reply, longs=(*reply.longs[:3], number)) if reply.longs else reply


def _log(request: Request, error: Failed) -> None:
    # that nothing is there to stop or to fetch is a usual answer
    usual = error.failure in (Failure.CONTINUOUS_ENDED, Failure.DS_CHANNEL_NOT_ACQUIRED)
    level = logging.DEBUG if usual else logging.WARNING
    logger.log(level, "%s failed: %s", request.function.name, error)


def _not_simulated(request: Request) -> Reply:
    raise Failed(Failure.GENERAL_SCRIPT_ERROR, "it is not simulated")


def _plugin_version() -> int:
    major, minor, _ = DM_VERSION
    return 10_000 * (2 + major) + 100 * (minor // 10) + minor % 10


def _camera(request: Request) -> None:
    if request.longs[0] != 0:
        raise Failed(Failure.GENERAL_SCRIPT_ERROR, f"there is no camera {request.longs[0]}")


def _room(request: Request) -> int:
    """How many pixels the client has room for; what cannot be is the plugin's memory error."""
    room = request.longs[0]
    if not 0 < room <= MOST_PIXELS:
        raise BadPacket(Refusal.EXCEPTION)
    return room


def _halved(image: NDArray[np.uint16], divide_by_2: int) -> NDArray[np.uint16]:
    return image // 2 if divide_by_2 > 0 else image


def _image(request: Request, image: Counts) -> Reply:
    """A reply with an image, cut to as many whole rows as there is room for."""
    rows = min(image.shape[0], _room(request) // image.shape[1])
    if rows == 0:
        raise Failed(Failure.GENERAL_SCRIPT_ERROR, "there is no room for one row")
    sent = np.ascontiguousarray(image[:rows])
    return Reply(longs=(sent.size, sent.shape[1], rows, 0), image=_bytes(sent))


def _bytes(image: Counts) -> memoryview:
    little = image.view(np.uint16).astype("<u2", copy=False)
    return little.reshape(-1).view(np.uint8).data
