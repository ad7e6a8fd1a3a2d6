"""A loss that is NaN in one of two processes ends both, with a sentence, and nothing waits."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = """
    import sys
    import torch
    from mmattn.cli.failures import end_run
    from mmattn.core.checkpoint import SafeCheckpointHook
    from mmattn.core.finite import InvalidLossHook
    from tests.core import toy

    folder, rank, world, bad = sys.argv[1], *map(int, sys.argv[2:])

    class OneBad(toy.Numbers):
        def __getitem__(self, index):
            return {'x': torch.tensor([7.0 if index == bad else index / 6])}

    toy.Numbers = OneBad
    options = {}
    if world > 1:
        torch.distributed.init_process_group(
            'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=world
        )
        wrapper = dict(type='MMDistributedDataParallel', device_ids=None)
        options = dict(launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))
    hooks = [InvalidLossHook(), SafeCheckpointHook()]
    runner = toy.make_runner(f'{folder}/run', hooks, **options)
    try:
        runner.train()
    except Exception as error:
        sys.exit(end_run('train', error))
"""


def diverge(folder, processes, bad):
    """Train on six images, one a step and process, of which one makes the loss infinite.

    Returns:
        What is wrong with the end of the training, or None.
    """
    folder.mkdir(parents=True)
    script = folder / 'run.py'
    script.write_text(textwrap.dedent(RUN))
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), str(rank), str(processes), str(bad)],
            env={**os.environ, 'PYTHONPATH': str(ROOT), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    except subprocess.TimeoutExpired:
        return 'a process waits'
    finally:
        for process in started:
            process.kill()
    step = bad // processes + 1
    kept = rf'iter_{step - 1}\.pth stays as it is' if step > 1 else 'no checkpoint was saved yet'
    names = rf'^train: loss_fit is .* at step {step} .*first bad layer is bad \(Bad\).*{kept}'
    others = rf'^train: a loss is NaN or infinite at step {step} .* another process.*{kept}'
    for rank, (process, text) in enumerate(zip(started, said)):
        wanted = names if rank == bad % processes else others
        if process.returncode != 1 or 'Traceback' in text or not re.search(wanted, text, re.M):
            return f'process {rank}, bad image {bad}: {process.returncode}: {text[-400:]!r}'
    return None


@pytest.mark.slow
@pytest.mark.parametrize('processes, bad', [(1, 2), (2, 0), (2, 3)])
def test_every_process_ends_with_a_sentence(tmp_path, processes, bad):
    assert diverge(tmp_path / 'run', processes, bad) is None
