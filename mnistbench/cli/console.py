"""The consoles that commands print to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Whoever reads from a pipe wants each row on one line.
PIPE_COLUMNS = 1000


def console(*, stderr: bool = False) -> Console:
    """Return a console: as wide as the terminal, or so wide that nothing wraps in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_COLUMNS, highlight=False)
