"""Mistakes that a person can mend: said in one sentence, without a traceback."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

# Of several processes the first says what is wrong; the others wait to be ended by the launcher, and say it where they
# alone know.
WAIT_S = 3.0
P = ParamSpec("P")
R = TypeVar("R")


class UserError(ValueError):
    """A mistake of the user's: the message names the file or flag, what was found, and what to do."""


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
