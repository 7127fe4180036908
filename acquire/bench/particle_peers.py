"""Other ways to find and size particles, as a user of each library would write them.

Each takes an image (y, x) of counts and its pixel size, and gives discs (n, 3): y, x and radius of the
footprint in nm. Libraries are imported when a peer is called, and nowhere but here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from acquire.bench.particle_solids import Array

Image = NDArray[Any]
Peer = Callable[[Image, float], Array]

_LEAST_RADIUS_NM = 1.0
"""Islands smaller than that are left out: no peer has a detection limit of its own."""
_LARGEST_NM = 20.0
_SMOOTHING_NM = 0.5
_CORE = 0.8
"""Of the largest distance near it, what belongs to the core of a particle."""


def opencv_chain(image: Image, pixel_nm: float) -> Array:
    """OpenCV in one thread: Gaussian, top-hat, Otsu, Euclidean distances, split into their maxima.

    Of equal steps the fastest forms are taken (float32 Gaussian, square structuring element on
    uint16), and a particle's radius is the largest distance in it.
    """
    cv2 = _library("cv2")
    cv2.setNumThreads(1)
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), _SMOOTHING_NM / pixel_nm)
    counts = cv2.normalize(smooth, None, 0, np.iinfo(np.uint16).max, cv2.NORM_MINMAX, cv2.CV_16U)
    side = 2 * round(0.5 * _LARGEST_NM / pixel_nm) + 1
    square = np.ones((side, side), np.uint8)
    raised = cv2.morphologyEx(counts, cv2.MORPH_TOPHAT, square)
    _, mask = cv2.threshold(raised, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    around = 2 * round(2.0 / pixel_nm) + 1
    top = cv2.dilate(distance, np.ones((around, around), np.uint8))
    high = cv2.compare(distance, cv2.multiply(top, _CORE), cv2.CMP_GT)
    least = 0.7 * _LEAST_RADIUS_NM / pixel_nm
    cores = cv2.bitwise_and(high, cv2.compare(distance, least, cv2.CMP_GT))
    _, _, boxes, centres = cv2.connectedComponentsWithStats(cores)
    discs = np.empty((len(boxes) - 1, 3))
    for disc, (left, top_px, width, height, _), (x, y) in zip(
        discs, boxes[1:].tolist(), centres[1:].tolist(), strict=True
    ):
        widest = distance[top_px : top_px + height, left : left + width].max()
        disc[:] = y + 0.5, x + 0.5, widest
    discs *= pixel_nm
    return discs[discs[:, 2] >= _LEAST_RADIUS_NM]


def otsu(image: Image, pixel_nm: float) -> Array:
    """scikit-image: Gaussian, Otsu, labels."""
    filters = _library("skimage.filters")
    smooth = filters.gaussian(image.astype(np.float32), _SMOOTHING_NM / pixel_nm)
    return _islands(smooth > filters.threshold_otsu(smooth), pixel_nm)


def local_threshold(image: Image, pixel_nm: float) -> Array:
    """scikit-image: Gaussian, local threshold, labels."""
    filters = _library("skimage.filters")
    smooth = filters.gaussian(image.astype(np.float32), _SMOOTHING_NM / pixel_nm)
    side = 2 * round(_LARGEST_NM / pixel_nm) + 1
    level = filters.threshold_local(smooth, side, offset=-0.07 * float(np.median(smooth)))
    return _islands(smooth > level, pixel_nm)


def trackpy(image: Image, pixel_nm: float) -> Array:
    """trackpy.locate for features of 10 nm; its size is a radius of gyration, √2.5 of it that of a dome."""
    found = _library("trackpy").locate(image, 2 * round(5.0 / pixel_nm) + 1, engine="numba")
    radius = np.sqrt(2.5) * found["size"].to_numpy()
    places = found[["y", "x"]].to_numpy() + 0.5
    return np.asarray(np.column_stack([places, radius]) * pixel_nm)


def particlespy(image: Image, pixel_nm: float) -> Array:
    """ParticleSpy: its own Otsu segmentation and particle analysis."""
    hyperspy, library = _library("hyperspy.api"), _library("particlespy.api")
    signal = hyperspy.signals.Signal2D(image.astype(np.float32))
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.units = pixel_nm, "nm"
    parameters = library.parameters()
    parameters.generate(threshold="otsu", gaussian=2, min_size=50)
    with warnings.catch_warnings():
        # what it uses of scikit-image is going to be renamed
        warnings.simplefilter("ignore", FutureWarning)
        found = library.particle_analysis(signal, parameters).list
    # what it calls x is the row
    rows = [[one.properties[name]["value"] for name in ("x", "y", "area")] for one in found]
    table = np.array(rows, np.float64).reshape(-1, 3)
    table[:, :2] += 0.5 * pixel_nm
    table[:, 2] = np.sqrt(table[:, 2] / np.pi)
    return table


PEERS: dict[str, tuple[str, Peer]] = {
    "OpenCV chain": ("cv2", opencv_chain),
    "skimage Otsu": ("skimage", otsu),
    "skimage local": ("skimage", local_threshold),
    "trackpy": ("trackpy", trackpy),
    "ParticleSpy": ("particlespy", particlespy),
}
"""By name: the module that must be installed, and the function."""


def installed(name: str) -> bool:
    """Whether a peer's library is there."""
    return find_spec(PEERS[name][0]) is not None


def _library(name: str) -> Any:
    return import_module(name)


def _islands(mask: Image, pixel_nm: float) -> Array:
    labels = _library("skimage.measure").label(mask)
    area = np.bincount(labels.ravel())[1:]
    if not len(area):
        return np.empty((0, 3))
    names = np.arange(1, len(area) + 1)
    centres = np.array(ndimage.center_of_mass(mask, labels, names)) * area[:, None]
    return _discs(area, centres[:, 0], centres[:, 1], pixel_nm)


def _discs(area: Image, y: Image, x: Image, pixel_nm: float) -> Array:
    radius = np.sqrt(area / np.pi) * pixel_nm
    keep = radius >= _LEAST_RADIUS_NM
    area = np.maximum(area, 1)
    table = np.column_stack([(y / area + 0.5) * pixel_nm, (x / area + 0.5) * pixel_nm, radius])
    return np.asarray(table[keep])
