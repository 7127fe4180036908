"""The one tree of errors that hotstage raises; every message names the thing, the value, the limit and the mend."""

from __future__ import annotations


class HotstageError(Exception):
    """Root of every error that hotstage raises on purpose; ``str(error)`` is advice for a person."""


class UnitError(HotstageError):
    """A quantity could not be read, or has the wrong dimension."""


class ConfigError(HotstageError):
    """A station, recipe or option file says something that cannot be used."""


class RecipeError(ConfigError):
    """A recipe cannot be read, or cannot be run as written."""


class PluginError(HotstageError):
    """A driver, simulator or estimator is unknown, or failed to import."""


class LimitError(HotstageError):
    """A request exceeds what the device, the station or the recipe allows; nothing was moved."""


class InstrumentError(HotstageError):
    """An instrument refused or failed a command."""


class LinkError(InstrumentError):
    """An instrument or its server did not answer; what it does now is unknown until it is read again."""


class FaultError(InstrumentError):
    """A safety trip is latched; a person must clear it before the instrument obeys again."""


class LeaseError(InstrumentError):
    """A dangerous command came from someone who does not hold control."""


class EmergencyOff(LeaseError):
    """Somebody switched everything off by hand; control was taken away."""


class StoreError(HotstageError):
    """The run could not be written or read."""


class MeasureError(HotstageError):
    """An array cannot be measured as asked."""


class RunAborted(HotstageError):
    """The run was ended by its operator or by a limit; carries the reason."""


def error_types() -> dict[str, type[HotstageError]]:
    """Every error class of this module by its name, for carrying errors across a wire.

    What others derive from them may be made differently, and comes out as its nearest kind here.
    """
    found: dict[str, type[HotstageError]] = {}
    pending = [HotstageError]
    while pending:
        cls = pending.pop()
        if cls.__module__ == __name__:
            found[cls.__name__] = cls
            pending.extend(cls.__subclasses__())
    return found
