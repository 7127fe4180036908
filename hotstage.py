"""Starts the `hotstage` command, and says so if a foreign package named `acquire` stands in its way."""

from __future__ import annotations

import importlib
import importlib.util
import sys


def main() -> int:
    """Run the command line; returns its exit status."""
    try:
        command = importlib.import_module("acquire.cli")
    except ModuleNotFoundError as error:
        if error.name not in ("acquire", "acquire.cli"):
            raise
        spec = importlib.util.find_spec("acquire")
        where = spec.origin if spec is not None else None
        if where is None:
            message = "hotstage's package 'acquire' is not installed. Install hotstage again."
        else:
            message = (
                f"a foreign package named 'acquire' ({where}) hides hotstage's own. Uninstall it "
                "(often `pip uninstall acquire-imaging`), or give hotstage an environment of its own."
            )
        sys.stderr.write(f"error: {message}\n")
        return 1
    status: int = command.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
