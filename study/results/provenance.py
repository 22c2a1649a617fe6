"""The commit of the code that made records."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def commit() -> dict[str, Any]:
    """The commit of the code, and whether the tree differs from it, results aside."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        run = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        changed = git("status", "-s", "--", ":/", ":(top,exclude)results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except OSError:
        return {"commit": "", "dirty": False}
