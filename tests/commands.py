"""The tools as a user runs them: by their command line, in this process."""

import contextlib
import io
import runpy
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'


def run_command(name, *arguments):
    """Run ``tools/NAME`` with arguments; returns its exit code.

    Text that it exits with goes to the standard error, as Python does.
    """
    path = TOOLS / name
    with mock.patch.object(sys, 'argv', [str(path), *map(str, arguments)]):
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as done:
            if isinstance(done.code, str):
                print(done.code, file=sys.stderr)
                return 1
            return done.code or 0
    return 0


def printed_by(name, *arguments):
    """What a tool that succeeds prints."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run_command(name, *arguments)
    assert code == 0
    return said.getvalue()
