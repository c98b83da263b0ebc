"""Debian's Chromium, headless, with a new profile and no way out of this machine."""

import os
import shutil
from pathlib import Path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]


def launch(playwright, profile: Path):
    """A browser context; CHROMIUM names another executable."""
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert executable, "chromium is not installed: tests/run installs it"
    return playwright.chromium.launch_persistent_context(profile, executable_path=executable, headless=True, args=FLAGS)
