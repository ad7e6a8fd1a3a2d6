"""A study from plain values to its report: plan, leave out what does not run, train, compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmattn.data.checks import check_data
from mmattn.insertion.insert import read_config
from mmattn.study.launch import Launcher, run_all
from mmattn.study.plan import (
    PLAIN,
    check_checkpoint,
    check_disk,
    check_test,
    make_entries,
    set_data_root,
)
from mmattn.study.progress import Progress
from mmattn.study.report import write_report
from mmattn.study.runs import Run
from mmattn.study.settings import shorten_schedule
from mmattn.study.study import Study
from mmattn.study.summary import summarize

__all__ = ['Changes', 'conduct', 'drop_broken', 'make_study']


@dataclass(frozen=True)
class Changes:
    """What a study changes in the plain config, and in configs of one's own.

    Args:
        options: Settings, as ``--cfg-options`` gives them.
        data_root: ``data_root`` of all data sets.
        epochs: Length of the training; the learning rate is scaled to it.
        iters: The same for a config that trains by iterations.
        checkpoint: Weights of the plain network that every run starts from.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    data_root: str | None = None
    epochs: int | None = None
    iters: int | None = None
    checkpoint: str | None = None

    def apply(self, cfg: Config) -> None:
        """Change a config."""
        cfg.merge_from_dict(dict(self.options))
        if self.data_root:
            set_data_root(cfg, self.data_root)
        shorten_schedule(cfg, self.epochs, self.iters)
        if self.checkpoint:
            cfg.load_from = self.checkpoint


def make_study(
    config: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    work_dir: Path,
    out: Path,
    changes: Changes,
    best: str | None = None,
    keep: bool = False,
) -> Study:
    """Plan a study; everything that can go wrong before hours are spent.

    Args:
        config: The plain config: a file, or ``mmdet::NAME``, ``mmpretrain::NAME``.
        methods: As ``--methods`` of ``tools/study.py`` takes them.
        seeds: Of every method.
        work_dir: As of :class:`Study`.
        out: Likewise.
        changes: What is changed in the configs.
        best: As of :class:`Study`.
        keep: Likewise.

    Returns:
        The study; ``refused`` has the methods that cannot stand in this network, ``notes`` what a
        person should know.

    Raises:
        ValueError: The config, its data or the checkpoint cannot be used.
    """
    base = read_config(config)
    changes.apply(base)
    notes = check_test(base, best)
    notes += check_data(base, ('train', 'val', 'test') if best else ('train', 'test'))
    if len(seeds) == 1:
        notes.append('one seed: intervals hold the chance of the test images alone')
    if changes.checkpoint:
        said = check_checkpoint(base, changes.checkpoint)
        notes.append(f'every run starts from {Path(changes.checkpoint).name}: {said}')
    entries, refused = make_entries(base, methods, changes.apply)
    title = Path(config.rpartition('::')[2]).stem
    return Study(title, entries, seeds, work_dir, out, refused, best, keep, notes)


def drop_broken(study: Study, costs: Mapping[str, Any]) -> dict[str, str]:
    """Leave out the methods that do not run here.

    Args:
        study: Loses their entries.
        costs: What :func:`mmattn.study.costs.measure_costs` found.

    Returns:
        The methods, each with the reason.

    Raises:
        ValueError: The plain network does not run.
    """
    broken = {label: cost['problem'] for label, cost in costs.items() if 'problem' in cost}
    if PLAIN in broken:
        raise ValueError(f'config: the plain network does not run here: {broken[PLAIN]}')
    study.refused.update(broken)
    study.entries = [one for one in study.entries if one.label not in broken]
    return broken


def conduct(
    study: Study,
    costs: Mapping[str, Any],
    command: list[str],
    launcher: Launcher,
    parallel: int = 1,
    train: bool = True,
) -> dict[str, Any]:
    """Train what is not finished, and write the report whenever a run has ended.

    Args:
        study: Prepared.
        costs: Of its entries.
        command: The command line, for the report.
        launcher: Starts the runs.
        parallel: Runs at a time.
        train: Otherwise only what is finished is reported.

    Returns:
        The summary.

    Raises:
        ValueError: The disk is too full for the checkpoints to come.
    """
    models = [costs[run.label]['params'] for run in study.runs() if not run.finished]
    if models:
        check_disk(study.work_dir, models, parallel, study.keep)
    reported = 0
    with Progress(study) as progress:

        def show(running: Sequence[Run]) -> None:
            nonlocal reported
            ended = sum(run.finished for run in study.runs())
            if ended != reported and running:  # what is known is there to read
                reported = ended
                write_report(summarize(study, costs, command), study.out)
            progress(running)

        run_all(list(study.runs()) if train else [], launcher, show)
    found = summarize(study, costs, command)
    write_report(found, study.out)
    return found
