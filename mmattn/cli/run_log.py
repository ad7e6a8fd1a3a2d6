"""Start runs of the tools, and read back what they wrote into their work dirs."""

import contextlib
import json
import os
from pathlib import Path

from mmattn.core.text import read_json, read_lines, write_text

__all__ = ['child_environment', 'read_scalars', 'write_json']


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment for a tool started from here: it finds this very mmattn."""
    paths = [str(Path(__file__).parents[2]), os.environ.get('PYTHONPATH', '')]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), **variables}


def read_scalars(work_dir: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Collect the curves of a training, over all its resumed parts.

    Args:
        work_dir: The ``--work-dir`` of the run.

    Returns:
        dict: Name to ``(step, value)`` in the order of the steps. Where a part was trained twice
        (after an interruption), the later value counts.
    """
    curves: dict[str, dict[int, float]] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):  # folders are timestamps
        for line in read_lines(path):
            try:
                entry = json.loads(line)
            except ValueError:  # the run was killed in the middle of a line
                continue
            step = entry.get('step', entry.get('iter'))
            if step is None:
                continue
            for name, value in entry.items():
                if isinstance(value, int | float) and name != 'step':
                    curves.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in curves.items()}


def write_json(path: str | Path, content: dict, merge: bool = False) -> dict:
    """Write a JSON file in one piece, so that no reader ever sees half of it.

    Args:
        path: The file; its folder is made.
        content: What to write.
        merge: Keep other keys of a file that is there.

    Returns:
        dict: What the file holds now.
    """
    path = Path(path)
    if merge:
        with contextlib.suppress(OSError, ValueError, TypeError):
            content = {**read_json(path), **content}
    write_text(path, json.dumps(content, indent=1) + '\n')
    return content
