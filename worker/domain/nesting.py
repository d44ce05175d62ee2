"""How deeply a profile may be nested: what one place could just decode, a place that is further down its stack could not."""

import re
from typing import Final

DEEPEST: Final = 200
"""Levels of a profile. Python gives up at some 1,000, its own calls included, and people may write their own user_metadata."""

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


def too_deep(text: bytes) -> bool:
    """Tell whether JSON is nested more deeply than DEEPEST."""
    if text.count(b"{") + text.count(b"[") <= DEEPEST:
        return False
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in (b"{", b"["):
            depth += 1
            if depth > DEEPEST:
                return True
        elif token[0] in (b"}", b"]"):
            depth -= 1
    return False
