"""The work that a trained build is made by (`benches/train`) is answered as it expects, by any build."""

import subprocess
import sys

from harness.gateway import BINARY, ROOT


def test_the_work_of_the_training_is_done():
    words = [sys.executable, ROOT / "benches" / "train", "--only", BINARY, "--part", "100"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    for protocol in ("Caller:", "Speaker:", "Caller2:"):
        assert protocol in done.stdout
    assert "{401: 50}" in done.stdout
