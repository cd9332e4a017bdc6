"""`audiossl completion`: what a shell needs to complete commands, flags and files."""

from __future__ import annotations

import argparse
from collections.abc import Callable

COMPLETION_EXAMPLE = """\
examples:
  audiossl completion bash > ~/.local/share/bash-completion/completions/audiossl
  audiossl completion zsh > ~/.zfunc/_audiossl          # in a folder of $fpath
  audiossl completion tcsh | sudo tee /etc/profile.d/audiossl.csh
"""


def completion_flags(parser: argparse.ArgumentParser, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Add the flags of the command; `whole` builds the parser that is completed."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
    parser.set_defaults(whole=whole)


def completion(given: argparse.Namespace) -> int:
    """Print a shell's script of completion."""
    import shtab

    print(shtab.complete(given.whole(), given.shell))
    return 0
