"""`portcullis demo` as a process."""

import signal
import subprocess

from .gateway import BINARY, START, Lines


class Demo:
    """A running demo; `url` is its page."""

    def __init__(self, *arguments: str):
        self.process = subprocess.Popen(
            [str(BINARY), "demo", "--listen", "127.0.0.1:0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.out, self.log = Lines(self.process.stdout), Lines(self.process.stderr)
        try:
            self.url = self.out.wait(r"^ +http://127\.0\.0\.1:\d+/$").strip().rstrip("/")
        except AssertionError:
            self.process.kill()
            raise AssertionError("the demo did not start:\n" + "\n".join(self.log.kept)) from None

    def stop(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the demo did not end") from None
        assert code == 0 and "panicked" not in "\n".join(self.log.kept), "\n".join(self.log.kept)
