"""Mistakes that a person can mend: said in one sentence, without a traceback."""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# Of several processes the first says what is wrong; the others wait to be ended by the launcher, and say it where they
# alone know.
WAIT_S = 3.0
# What would change the look of a terminal, or end a line: file names and damaged files may hold it.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 2000
P = ParamSpec("P")
R = TypeVar("R")


class UserError(ValueError):
    """A mistake of the user's: the message names the file or flag, what was found, and what to do.

    >>> str(UserError("a\\x1b[2J.wav is\\nempty."))
    'a\\\\x1b[2J.wav is empty.'
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_one_line(str(message)))


def _one_line(text: str) -> str:
    """The text without line ends and control characters; of a very long one the beginning and the end."""
    text = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), re.sub(r"\s*\n\s*", " ", text))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 300]} ... {text[-200:]}"


def errors_for_people(main: Callable[P, R]) -> Callable[P, R]:
    """Turn a `UserError` of a program's `main` into one line on stderr and exit code 2.

    Set AUDIOSSL_TRACEBACK=1 to see where it was raised. A reader of stdout that has gone (`--help | head`) ends the
    program quietly.
    """

    @functools.wraps(main)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            try:
                return main(*args, **kwargs)
            finally:
                sys.stdout.flush()  # here, where a closed pipe can be answered, and not at the interpreter's end
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(128 + signal.SIGPIPE) from None
        except UserError as error:
            if os.environ.get("AUDIOSSL_TRACEBACK"):
                raise
            if os.environ.get("RANK", "0") != "0":
                time.sleep(WAIT_S)
            print(f"audiossl: error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    return guarded
