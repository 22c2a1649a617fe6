"""What goes wrong and is expected to: the user's mistakes, interrupts, failed cells."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A mistake in what the user asked for: one line, naming offender and remedy.

    The command line prints it and exits with code 2; a library caller may catch it.
    """


class CellsFailed(Exception):
    """Cells that raised something of their own, after all others have run."""

    def __init__(self, files: Sequence[str], folder: object) -> None:
        self.files = tuple(files)
        names = ", ".join(files)
        super().__init__(f"{len(files)} cells failed: {names}; the others are in {folder}")


def interrupted(error: BaseException | None) -> bool:
    """Ctrl-C, also where a library has made another exception of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
