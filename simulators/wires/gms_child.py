"""Plays Gatan's Microscopy Suite in a process of its own: runs a script with a stand-in of DigitalMicrograph.

``python -m simulators.wires.gms_child SCRIPT …``: standard input and output are the private pipe to the
simulation; what the script writes goes there, too, as GMS shows it in its window of results.
"""

from __future__ import annotations

import io
import os
import runpy
import sys

from simulators.wires import digital_micrograph
from simulators.wires.gms_pipe import Asking


class _Results(io.TextIOBase):
    """The window of results."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Show a text."""
        self._asking.ask("result", text)
        return len(text)


def main(arguments: list[str]) -> None:
    """Run the script ``arguments[0]`` with the other arguments."""
    private_in, private_out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else may write between the pipe's lines
    asking = Asking(private_in, private_out)
    digital_micrograph.connect(asking)
    sys.modules["DigitalMicrograph"] = digital_micrograph
    sys.stdout = _Results(asking)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
