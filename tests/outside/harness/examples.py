"""The configs under `examples/`, with their addresses put in and nothing else changed."""

import re

from .gateway import NO_LIMITS, ROOT
from .tokens import bearer, mint

EXAMPLES = ROOT / "examples"
ISSUER = "https://accounts.example.com"
"""Whose users they know."""


def user(sub: str) -> dict[str, str]:
    """The credential of one of these users."""
    return bearer(mint(sub, iss=ISSUER))


def text(name: str, addresses: dict[str, str], file: str = "portcullis.toml") -> str:
    """An example's text; each address must stand in it. Its listeners take free ports."""
    whole = (EXAMPLES / name / file).read_text(encoding="utf-8")
    for old, new in addresses.items():
        assert old in whole, old
        whole = whole.replace(f'"{old}"', f'"{new}"')
    whole, count = re.subn(r'listen = \["[^"]*"\]', 'listen = ["127.0.0.1:0"]', whole)
    assert count == 1, "one public listener"
    if "[admin]" in whole:
        return re.sub(r'\nlisten = "[^"]*"', '\nlisten = "127.0.0.1:0"', whole)
    return whole + '\n[admin]\nlisten = "127.0.0.1:0"\n'


def hurried(name: str, addresses: dict[str, str], file: str) -> str:
    """The same for users in a hurry, whom the limits that are on by default would stop."""
    return f"{text(name, addresses, file)}\n{NO_LIMITS}"
