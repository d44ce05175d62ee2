"""What a check of `understudy doctor` comes to."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

Verdict = Literal["fine", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check: "fine", "note" (works, could be better) or "wrong", and a sentence: what is, or what to do."""

    check: str
    verdict: Verdict
    says: str


fine = partial(Finding, verdict="fine")
note = partial(Finding, verdict="note")
wrong = partial(Finding, verdict="wrong")
