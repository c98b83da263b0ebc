"""The configs under `examples/`, with their addresses put in and nothing else changed."""

import re

from .gateway import ROOT

EXAMPLES = ROOT / "examples"


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
