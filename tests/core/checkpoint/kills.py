"""Trainings that are killed, or find the disk full, again and again; with and without our hook."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from mmattn.core.checkpoint import load_checkpoint, newest_checkpoint

ROOT = Path(__file__).parents[3]
RUN = """
    import sys
    sys.path.insert(0, {root!r})
    import torch
    from mmattn.cli.failures import end_run
    from mmattn.core.checkpoint import SafeCheckpointHook, newest_checkpoint
    from tests.core import toy

    class Big(toy.Toy):
        def __init__(self):
            super().__init__()
            self.register_buffer('much', torch.rand(2_000_000))  # a file takes a while

    toy.Toy = Big
    start = newest_checkpoint(sys.argv[1])
    safe = [SafeCheckpointHook()] if sys.argv[2] == 'safe' else []
    runner = toy.make_runner(
        sys.argv[1], safe, keep=1, steps=200, load_from=start, resume=start is not None
    )
    try:
        runner.train()
    except Exception as error:
        sys.exit(end_run('train', error))
"""


def start(folder, work_dir, safe=True):
    """Begin a training that saves 8 MB after every step and keeps one checkpoint."""
    script = folder / 'run.py'
    script.write_text(textwrap.dedent(RUN.format(root=str(ROOT))))
    return subprocess.Popen(
        [sys.executable, str(script), str(work_dir), 'safe' if safe else 'plain'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def last_step(work_dir):
    """Return the step of the newest checkpoint from which a run can resume; 0 without one."""
    found = newest_checkpoint(work_dir, say=False)
    return load_checkpoint(found)['meta']['iter'] if found else 0


def kill(folder, work_dir, seed, safe=True):
    """Kill a training shortly after it saved something of its own.

    Returns:
        The steps that can be resumed before and after.
    """
    before = last_step(work_dir)
    process = start(folder, work_dir, safe)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        names = [int(path.stem[5:]) for path in work_dir.glob('iter_*.pth')]
        if max(names, default=0) > before:
            break
        time.sleep(0.01)
    generator = torch.Generator().manual_seed(seed)
    time.sleep(float(torch.rand(1, generator=generator)) * 0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return before, last_step(work_dir)


@contextmanager
def small_disk(folder, megabytes):
    """Mount a disk of its own at a folder; yields a function that makes it larger.

    Raises:
        OSError: It may not be mounted here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'tmpfs', str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f'no disk can be mounted here: {done.stderr.strip()}')
    try:
        yield lambda size: subprocess.run(
            ['mount', '-o', f'remount,size={size}m', str(folder)], check=True
        )
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=False)


def fill(folder, megabytes):
    """Train on a disk that is full after a few checkpoints, make it larger, resume.

    Returns:
        What the training said, the step that can be resumed then, and the last step at the end.
    """
    with small_disk(folder / 'disk', megabytes) as enlarge:
        work_dir = folder / 'disk' / 'run'
        said = start(folder, work_dir).communicate()[1]
        kept = last_step(work_dir)
        enlarge(200)
        start(folder, work_dir).communicate()
        return said, kept, last_step(work_dir)
