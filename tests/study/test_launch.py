"""Starting runs: the order and number at a time, submitit's executors, and what a person sees."""

import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmattn.study.launch import Pool, Slurm, run_all
from mmattn.study.progress import Progress
from mmattn.study.runs import Run


def make_runs(folder: Path, *labels: str, seeds=(0,)) -> list[Run]:
    made = []
    for label in labels:
        for seed in seeds:
            run = Run(label, seed, folder / 'runs' / label / str(seed), folder / 'results' / label)
            run.folder.mkdir(parents=True)
            run.results.mkdir(parents=True, exist_ok=True)
            made.append(run)
    return made


def finish(run: Run, value: float = 0.5) -> None:
    run.outcome_file.write_bytes(b'')
    result = dict(figures={'top-1': value}, train_seconds=60.0)
    run.result_file.write_text(json.dumps(result))


class Steps:
    """Ends a run at the second look at it; those called 'bad' leave no result."""

    def __init__(self, at_a_time: int) -> None:
        self.at_a_time = at_a_time
        self.log: list[str] = []
        self.looks: dict[Run, int] = {}

    def start(self, runs):
        self.log += [f'start {run.label}' for run in runs]
        return list(runs)

    def ended(self, handle):
        self.looks[handle] = self.looks.get(handle, 0) + 1
        if self.looks[handle] < 2:
            return False
        self.log.append(f'end {handle.label}')
        if handle.label != 'bad':
            finish(handle)
        return True

    def stop(self, handle):
        self.log.append(f'stop {handle.label}')


def test_two_at_a_time_and_a_failed_one_stops_nothing(tmp_path):
    runs = make_runs(tmp_path, 'a', 'bad', 'c', 'd')
    finish(runs[3])
    seen = []
    steps = Steps(2)
    run_all(runs, steps, lambda running: seen.append([r.label for r in running]), every=0)
    assert [line for line in steps.log if line[:5] == 'start'] == [
        'start a',
        'start bad',
        'start c',
    ]
    assert steps.log.index('end a') < steps.log.index('start c')
    assert [run.finished for run in runs] == [True, False, True, True]
    assert max(map(len, seen)) == 2
    assert seen[-1] == []


def test_an_interrupt_stops_what_is_running(tmp_path):
    def interrupt(running):
        raise KeyboardInterrupt

    steps = Steps(2)
    with pytest.raises(KeyboardInterrupt):
        run_all(make_runs(tmp_path, 'a', 'b', 'c'), steps, interrupt, every=0)
    assert steps.log == ['start a', 'start b', 'stop a', 'stop b']


@pytest.fixture
def study(tmp_path):
    runs = make_runs(tmp_path, 'plain', 'SE', seeds=(0, 1))
    finish(runs[0], 0.4)
    (runs[1].folder / 'state.json').write_text(
        json.dumps(dict(iteration=30, iterations=120, seconds_left=600))
    )
    (runs[2].folder / 'state.json').write_text(json.dumps(dict(failure='ValueError: no luck')))
    return SimpleNamespace(
        title='mine',
        seeds=(0, 1),
        entries=[SimpleNamespace(label='plain'), SimpleNamespace(label='SE')],
        runs=lambda: iter(runs),
        run=lambda label, seed: next(r for r in runs if (r.label, r.seed) == (label, seed)),
        all=runs,
    )


def test_a_log_gets_a_line_for_every_change(study):
    log = io.StringIO()
    with Progress(study, log) as progress:
        progress([study.all[1]])
        progress([study.all[1]])  # nothing new
    lines = [line.split(' ', 1)[1] for line in log.getvalue().splitlines()]
    assert lines == [
        'run 1 of 4: plain, seed 0: done 0.400',
        'run 2 of 4: plain, seed 1: 25 %, 10 min left',
        'run 3 of 4: SE, seed 0: failed: ValueError: no luck',
    ]
    assert progress.time_left([study.all[1]]) == pytest.approx(600 + 60)  # and SE with seed 1


def test_a_terminal_gets_one_table(study):
    pytest.importorskip('rich')

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    with Progress(study, screen) as progress:
        progress([study.all[1]])
    text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', screen.getvalue())
    row = next(line for line in text.splitlines() if 'plain' in line)
    assert 'done 0.400' in row
    assert '25 %, 10 min left' in row
    assert 'about 11 min left' in text


def executable(path: Path, text: str) -> None:
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)


def test_slurm_gets_one_array_with_a_task_for_every_run(tmp_path, monkeypatch):
    pytest.importorskip('submitit')
    tools = tmp_path / 'bin'
    tools.mkdir()
    executable(tools / 'srun', 'exit 0\n')
    executable(tools / 'squeue', 'exit 0\n')
    executable(tools / 'sacct', 'echo "JobID|State|NodeList"\n')
    executable(tools / 'sbatch', f'cp "$1" {tmp_path}/submitted\necho Submitted batch job 42\n')
    monkeypatch.setenv('PATH', f'{tools}{os.pathsep}{os.environ["PATH"]}')
    options = dict(partition='gpu', time=90, gpus_per_node=1)
    slurm = Slurm(tmp_path / 'jobs', 3, options)
    runs = make_runs(tmp_path, 'plain', 'SE', 'ECA', seeds=(0, 1))
    handles = slurm.start(runs)
    assert [handle.job_id for handle in handles] == [f'42_{i}' for i in range(6)]
    text = (tmp_path / 'submitted').read_text()
    assert re.search(r'^#SBATCH --array=0-5%3$', text, re.MULTILINE)
    for flag in ('--partition=gpu', '--time=90', '--gpus-per-node=1'):
        assert f'#SBATCH {flag}\n' in text
    assert slurm.at_a_time >= len(runs)  # nothing waits here, the array does
    with pytest.raises(ValueError, match=r"--slurm: .*'gpu_per_node'"):
        Slurm(tmp_path / 'jobs', 3, dict(gpu_per_node=1))


@pytest.mark.slow
def test_several_at_a_time_through_submitit(tmp_path):
    """Each in a process of its own; what they end with is what they would alone."""
    pytest.importorskip('submitit')
    pytest.importorskip('mmpretrain')
    from mmattn.core.config import read_config

    from . import classifier

    classifier.make_images(tmp_path)
    cfg = read_config(classifier.write_config(tmp_path, tmp_path))
    names = [f'{i}' for i in range(12)]
    runs = make_runs(tmp_path, 'plain', seeds=(0, 1))
    for run in runs:
        run.prepare(cfg, None, False, names)
    run_all(runs, Pool(tmp_path / 'jobs', 2, threads=1))
    said = [(run.folder / 'run.log').read_text()[-2000:] for run in runs]
    assert [run.failure() for run in runs] == [None, None], said
    assert all(run.finished for run in runs), said
