"""Importing fetches nothing: every module, in a process where a connection would be noticed."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys
asked = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"):
        asked.append((event, arguments))
        raise OSError("no network here")
sys.addaudithook(watch)
if "connect" in sys.argv:
    import socket
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    except OSError:
        pass
else:
    import audiossl
    names = [module.name for module in pkgutil.walk_packages(audiossl.__path__, "audiossl.", onerror=print)]
    for folder in ("transforms", "recipes", "pretrained"):
        package = importlib.import_module("audiossl." + folder)
        names += [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
    names = sorted(set(names) - {"audiossl.__main__", "audiossl.export.listen"})
    for name in names:
        importlib.import_module(name)
    print(len(names))
print("asked:", asked)
"""


def run(*arguments):
    """Output of the script in a process of its own."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_connection_would_be_noticed():
    noticed = run("connect")
    assert "socket.connect" in noticed or "socket.getaddrinfo" in noticed


def test_importing_every_module_fetches_nothing():
    found = run()
    assert found.endswith("asked: []\n"), found
    assert int(found.split()[0]) > 200
