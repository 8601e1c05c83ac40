"""How the foreign clients get here: from npm into build/clients, which git does not see."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / "build" / "clients"
PACKAGES = ("tus-js-client@4.3.1", "@uppy/core@6.3.1", "@uppy/tus@6.0.0")
PATIENCE_S = 300


class NotHere(Exception):
    """The clients cannot be had; the text says why."""


def install() -> Path:
    """The folder whose node_modules holds the clients, installed if they are not there yet.

    Raises:
        NotHere: there is no npm, or it did not work.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise NotHere("there is no node with npm")
    folder = CACHE / "-".join(package.rsplit("@", 1)[1] for package in PACKAGES)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
            try:
                subprocess.run(command, cwd=folder, timeout=PATIENCE_S, check=True, capture_output=True, text=True)
            except (OSError, subprocess.SubprocessError) as error:
                raise NotHere(f"npm: {getattr(error, 'stderr', '') or error}"[:500]) from None
            (folder / "installed").touch()
    return folder


if __name__ == "__main__":
    print(install())
