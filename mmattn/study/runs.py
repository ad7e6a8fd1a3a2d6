"""One run of a study: a folder with a config, trained, tested and judged, resumed where it was."""

import contextlib
import json
import os
import platform
import random
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmattn.core.checkpoint import (
    LoadReportHook,
    SafeCheckpointHook,
    load_checkpoint,
    newest_checkpoint,
    register_once,
)
from mmattn.core.finite import InvalidLossHook
from mmattn.core.text import read_json, read_lines, write_text
from mmattn.study.record import Outcome, Recorder
from mmattn.study.settings import write_config

__all__ = ['Run', 'execute']

_EVERY = 5  # seconds between two notes of how far a run is


@dataclass(frozen=True)
class Run:
    """One method with one seed.

    Its folder holds what a running training needs (config, log, checkpoints); its results, two
    small files, lie apart, so that they can be kept and given to another machine.

    Args:
        label: The method's name in the study.
        seed: The seed of initial weights and of the order of the data.
        folder: Where it works.
        results: Where its results go: ``seed_N.json`` and ``seed_N.npz``.
    """

    label: str
    seed: int
    folder: Path
    results: Path

    @property
    def result_file(self) -> Path:
        """Figures, curves, hours and machine of a finished run."""
        return self.results / f'seed_{self.seed}.json'

    @property
    def outcome_file(self) -> Path:
        """What the run found on every test image."""
        return self.results / f'seed_{self.seed}.npz'

    @property
    def finished(self) -> bool:
        """Whether both results are there."""
        return self.result_file.is_file() and self.outcome_file.is_file()

    def result(self) -> dict[str, Any]:
        """Return what the run measured."""
        return read_json(self.result_file)

    def outcome(self) -> Outcome:
        """Return what the run found."""
        return Outcome.load(self.outcome_file)

    def failure(self) -> str | None:
        """Why the last try ended, if it did."""
        with contextlib.suppress(OSError, ValueError):
            return read_json(self.folder / 'state.json').get('failure')
        return None

    def progress(self) -> tuple[int, int, float]:
        """Return iterations done, in all, and seconds left; zeros before the first note."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = read_json(self.folder / 'state.json')
            return state['iteration'], state['iterations'], state['seconds_left']
        return 0, 0, 0.0

    def prepare(self, cfg: Config, best: str | None, keep: bool, names: list) -> None:
        """Write what :func:`execute` needs.

        Args:
            cfg: The resolved config.
            best: The validation figure whose best checkpoint is tested; None for the last one.
            keep: Whether the tested checkpoint stays.
            names: Ids of the test images in the order of the truth.
        """
        cfg = cfg.copy()
        cfg.work_dir = str(self.folder)
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': self.seed}
        hook = {**(cfg.get('default_hooks') or {}).get('checkpoint', {'type': 'CheckpointHook'})}
        hook['max_keep_ckpts'] = 1
        if best:
            hook.update(save_best=best, rule=hook.get('rule'))
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'checkpoint': hook}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_config(cfg, self.folder / 'config.py')
        job = dict(
            label=self.label,
            seed=self.seed,
            results=str(self.results.absolute()),
            best=best,
            keep=keep,
            names=names,
        )
        write_text(self.folder / 'job.json', json.dumps(job) + '\n')

    @classmethod
    def read(cls, folder: Path) -> tuple['Run', dict]:
        """Return the run of a prepared folder, and its job."""
        job = read_json(folder / 'job.json')
        return cls(job['label'], job['seed'], folder, Path(job['results'])), job


class _Progress(Hook):
    """Notes how far a training is, and makes its data the same for every method.

    Weights are drawn while a model is built, by more or fewer random numbers with more or fewer
    layers; the random numbers of the data start anew with every epoch.
    """

    priority = 'VERY_HIGH'

    def __init__(self, file: Path, seed: int) -> None:
        self.file = file
        self.seed = seed
        self.next = 0.0

    def before_train(self, runner: Runner) -> None:
        self.started, self.first = time.time(), runner.iter
        self._draw(runner.epoch)

    def before_train_epoch(self, runner: Runner) -> None:
        self._draw(runner.epoch)

    def _draw(self, epoch: int) -> None:
        seed = (1_000_003 * self.seed + epoch) % 2**32
        random.seed(seed)
        np.random.seed(seed)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args, **kwargs) -> None:
        now = time.time()
        if now < self.next:
            return
        self.next = now + _EVERY
        done = runner.iter + 1
        each = (now - self.started) / (done - self.first)
        state = dict(
            iteration=done,
            iterations=runner.max_iters,
            seconds_left=each * (runner.max_iters - done),
        )
        write_text(self.file, json.dumps(state) + '\n')


def execute(folder: str | Path, launcher: str = 'none') -> dict[str, Any]:
    """Train and test the run of a folder, from its last checkpoint where there is one.

    Args:
        folder: What :meth:`Run.prepare` wrote.
        launcher: How several processes were started, as for mmengine's runner.

    Returns:
        The run's result, which is also written.
    """
    folder = Path(folder)
    run, job = Run.read(folder)
    if run.finished:
        return run.result()
    try:
        return _execute(run, job, launcher)
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        state = dict(failure=f'{type(error).__name__}: {text[0]}')
        write_text(folder / 'state.json', json.dumps(state) + '\n')
        traceback.print_exc()
        raise


def _execute(run: Run, job: dict, launcher: str) -> dict[str, Any]:
    cfg = Config.fromfile(run.folder / 'config.py')
    cfg.launcher = launcher
    reached = newest_checkpoint(run.folder)
    cfg.resume = reached is not None
    cfg.load_from = reached or cfg.get('load_from')
    _count_start(run.folder)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    register_once(runner, LoadReportHook(partial=not cfg.resume))
    register_once(runner, SafeCheckpointHook())
    register_once(runner, InvalidLossHook())
    runner.register_hook(_Progress(run.folder / 'state.json', run.seed))
    started = time.time()
    runner.train()
    seconds = _add_seconds(run.folder, time.time() - started)
    tested = newest_checkpoint(run.folder)
    if job['best']:
        tested = _best(run.folder)
        runner.load_checkpoint(tested)
    recorder = Recorder(run.outcome_file, job['names'])
    recorder.dataset_meta = runner.test_evaluator.dataset_meta
    runner.test_evaluator.metrics.append(recorder)
    figures = runner.test()
    result = dict(
        label=run.label,
        seed=run.seed,
        figures={name: float(value) for name, value in figures.items() if _is_number(value)},
        curves=_curves(run.folder),
        tested=Path(tested).name,
        train_seconds=round(seconds, 1),
        machine=_machine(),
    )
    if runner.rank == 0:
        _clear(run.folder, tested if job['keep'] else None)
        write_text(run.result_file, json.dumps(result, indent=1) + '\n')
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _count_start(folder: Path) -> None:
    """Forget an older failure."""
    with contextlib.suppress(OSError):
        (folder / 'state.json').unlink()


def _add_seconds(folder: Path, seconds: float) -> float:
    """Seconds of training over all parts of a run that was interrupted, where they are known."""
    return seconds + sum(_part_seconds(path) for path in _scalars(folder)[:-1])


def _scalars(folder: Path) -> list[Path]:
    return sorted(folder.glob('*/vis_data/scalars.json'))  # folders are timestamps


def _lines(path: Path) -> list[dict]:
    found = []
    for line in read_lines(path):
        with contextlib.suppress(ValueError):  # the run was killed in the middle of a line
            found.append(json.loads(line))
    return found


def _part_seconds(path: Path) -> float:
    """Return the time of a part by its log: the mean of an iteration, times iterations."""
    steps = [(one['step'], one['time']) for one in _lines(path) if 'time' in one and 'lr' in one]
    total, last = 0.0, steps[0][0] if steps else 0
    for step, each in steps:
        total += each * max(step - last, 0)
        last = step
    return total


def _curves(folder: Path, most: int = 100) -> dict[str, list]:
    """Loss by iteration and validation figures by step, thinned."""
    curves: dict[str, dict] = {}
    for path in _scalars(folder):
        for one in _lines(path):
            step = one.get('step', one.get('iter'))
            if step is None:
                continue
            for name, value in one.items():
                figure = '/' in name and 'loss' not in name
                if (name == 'loss' or figure) and _is_number(value):
                    curves.setdefault(name, {})[step] = value
    thin = {}
    for name, points in curves.items():
        ordered = sorted(points.items())
        stride = -(-len(ordered) // most)
        thin[name] = [[step, float(f'{value:.5g}')] for step, value in ordered[::stride]]
    return thin


def _best(folder: Path) -> str:
    files = sorted(folder.glob('best_*.pth'), key=os.path.getmtime)
    if not files:
        raise ValueError('no best checkpoint was saved: the training never validated')
    return str(files[-1])


def _clear(folder: Path, kept: str | None) -> None:
    """Delete checkpoints; the kept one loses what only a resumed training needs."""
    for file in folder.glob('*.pth'):
        if kept and file.name == Path(kept).name:
            content = load_checkpoint(file)
            temporary = folder / '.tested'
            torch.save({k: content[k] for k in ('meta', 'state_dict') if k in content}, temporary)
            os.replace(temporary, folder / 'tested.pth')
        if file.name != 'tested.pth':
            file.unlink()
    for file in folder.glob('last_checkpoint'):
        file.unlink()


def _machine() -> str:
    name = torch.cuda.get_device_name() if get_device() == 'cuda' else _processor()
    return f'torch {torch.__version__.split("+")[0]}, {name}, {torch.get_num_threads()} threads'


def _processor() -> str:
    with contextlib.suppress(OSError):
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
        found = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
        if found:
            return found[1].strip()
    return f'{platform.machine()} CPU'
