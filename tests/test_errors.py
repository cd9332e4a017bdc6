"""Mistakes of the user's and readers that go away: one line or none, and an exit code that says so."""

import os
import subprocess
import sys

PROGRAM = """
from audiossl.errors import UserError, errors_for_people

@errors_for_people
def main():
    {body}

main()
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True)


def test_a_mistake_is_one_line_and_exit_code_2():
    done = run("raise UserError('--run.epochs must be at least 1, found 0.')")
    assert done.returncode == 2
    assert done.stderr == "audiossl: error: --run.epochs must be at least 1, found 0.\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    done = run("1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_reader_that_has_gone_ends_the_program_quietly():
    for lines in (1, 100_000):  # fits into the buffer, and does not
        program = PROGRAM.format(body=f"print('line\\n' * {lines})")
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == 141


def test_of_several_processes_one_says_what_is_wrong():
    command = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--multi_gpu", "--num_processes", "2"]
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    wrong = [*command, "-m", "audiossl", "featurize", "nowhere", "--model", "none", "-o", "out/"]
    done = subprocess.run(wrong, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.count("audiossl: error:") == 1
