"""Start runs: one after the other here, several at a time or on a cluster through submitit."""

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mmattn.study.runs import Run

__all__ = ['Local', 'Pool', 'Slurm', 'make_launcher', 'run_all']


class Launcher(Protocol):
    """Starts runs and says when they have ended."""

    at_a_time: int

    def start(self, runs: Sequence[Run]) -> list[Any]:
        """Start runs; returns a handle of each."""

    def ended(self, handle: Any) -> bool:
        """Whether a run has ended, in whatever way."""

    def stop(self, handle: Any) -> None:
        """End a run; it resumes when it is started again."""


def _command(folder: Path, threads: int | None, processes: int) -> list[str]:
    job = ['-m', 'mmattn.study.job', str(folder)]
    if processes > 1:
        many = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
        return [sys.executable, *many, *job, '--launcher', 'pytorch']
    return [sys.executable, *job, *(['--threads', str(threads)] if threads else [])]


def _environment(threads: int | None) -> dict[str, str]:
    """Return variables by which a child finds this very mmattn and its number of threads."""
    paths = [str(Path(__file__).parents[2]), os.environ.get('PYTHONPATH', '')]
    found = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
    if threads:
        found.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    return found


def _call(folder: Path, threads: int | None, processes: int) -> int:
    with open(folder / 'run.log', 'ab') as log:
        return subprocess.call(
            _command(folder, threads, processes),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(threads),
        )


class Local:
    """One run after the other on this machine, each in a process of its own.

    Args:
        threads: CPU threads of a run; None leaves them to torch.
        processes: Processes (GPUs) of one run, through torchrun.
    """

    at_a_time = 1

    def __init__(self, threads: int | None = None, processes: int = 1) -> None:
        self.threads = threads
        self.processes = processes

    def start(self, runs: Sequence[Run]) -> list[subprocess.Popen]:
        return [self._start(run.folder) for run in runs]

    def _start(self, folder: Path) -> subprocess.Popen:
        with open(folder / 'run.log', 'ab') as log:
            return subprocess.Popen(
                _command(folder, self.threads, self.processes),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self.threads),
            )

    def ended(self, handle: subprocess.Popen) -> bool:
        return handle.poll() is not None

    def stop(self, handle: subprocess.Popen) -> None:
        handle.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            handle.wait(10)
        handle.kill()


class _Task:
    """What a job of submitit calls; put off by a scheduler, it is submitted again and resumes."""

    def __init__(self, threads: int | None, processes: int) -> None:
        self.threads = threads
        self.processes = processes

    def __call__(self, folder: str) -> int:
        return _call(Path(folder), self.threads, self.processes)

    def checkpoint(self, folder: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder)


class Pool:
    """Several runs at a time on this machine, by submitit's local executor.

    Args:
        folder: Where submitit keeps its files.
        at_a_time: Runs at a time.
        threads: CPU threads of a run.
        processes: Processes (GPUs) of one run.
    """

    def __init__(
        self, folder: Path, at_a_time: int, threads: int | None = None, processes: int = 1
    ) -> None:
        self.at_a_time = at_a_time
        self.task = _Task(threads, processes)
        self.executor = _submitit().LocalExecutor(folder)
        self.executor.update_parameters(timeout_min=60 * 24 * 365)

    def start(self, runs: Sequence[Run]) -> list[Any]:
        return [self.executor.submit(self.task, str(run.folder.absolute())) for run in runs]

    def ended(self, handle: Any) -> bool:
        return handle.done()

    def stop(self, handle: Any) -> None:
        handle.cancel()


class Slurm(Pool):
    """All runs as one job array of Slurm, one task a run; put-off runs are requeued.

    Args:
        folder: A folder that all nodes see.
        at_a_time: Tasks of the array at a time.
        options: Slurm's own, as submitit names them: ``partition``, ``time`` in minutes,
            ``gpus_per_node``, ``cpus_per_task``, ...
        threads: CPU threads of a run.
        processes: Processes (GPUs) of one run.
    """

    def __init__(
        self,
        folder: Path,
        at_a_time: int,
        options: Mapping[str, Any],
        threads: int | None = None,
        processes: int = 1,
    ) -> None:
        self.at_a_time = sys.maxsize  # the array waits by itself
        self.task = _Task(threads, processes)
        self.executor = _submitit().SlurmExecutor(folder)
        try:
            self.executor.update_parameters(array_parallelism=at_a_time, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f'--slurm: {error}') from error

    def start(self, runs: Sequence[Run]) -> list[Any]:
        folders = [str(run.folder.absolute()) for run in runs]
        return self.executor.map_array(self.task, folders)


def _submitit() -> Any:
    if importlib.util.find_spec('submitit') is None:
        raise ImportError('--parallel and --slurm need submitit: pip install submitit')
    import submitit

    return submitit


def make_launcher(
    folder: Path,
    at_a_time: int = 1,
    threads: int | None = None,
    processes: int = 1,
    slurm: Mapping[str, Any] | None = None,
) -> Launcher:
    """Choose what starts the runs.

    Args:
        folder: Where submitit keeps its files.
        at_a_time: Runs at a time.
        threads: CPU threads of a run.
        processes: Processes (GPUs) of one run.
        slurm: Slurm's own options, to submit the runs instead.
    """
    if slurm:
        return Slurm(folder, at_a_time, slurm, threads, processes)
    if at_a_time > 1:
        return Pool(folder, at_a_time, threads, processes)
    return Local(threads, processes)


def run_all(
    runs: Sequence[Run],
    launcher: Launcher,
    show: Callable[[list[Run]], None] = lambda running: None,
    every: float = 1.0,
) -> None:
    """Carry out runs; one that fails stops nothing.

    Args:
        runs: Prepared runs, in the order in which they start.
        launcher: What starts them.
        show: Called between looks with the runs on the way.
        every: Seconds between two looks.
    """
    waiting = [run for run in runs if not run.finished]
    handles: dict[Run, Any] = {}
    try:
        while waiting or handles:
            for run in [run for run, handle in handles.items() if launcher.ended(handle)]:
                del handles[run]
            room = launcher.at_a_time - len(handles)
            batch, waiting = waiting[:room], waiting[room:]
            if batch:
                handles.update(zip(batch, launcher.start(batch)))
            show(list(handles))
            if handles:
                time.sleep(every)
    finally:
        for handle in handles.values():
            launcher.stop(handle)
    show([])
