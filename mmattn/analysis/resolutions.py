"""Accuracy of a classifier over input sizes."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from mmattn.core.checkpoint import LoadReportHook
from mmattn.core.names import did_you_mean
from mmattn.core.text import read_json

__all__ = ['choose_metric', 'evaluate', 'plot', 'read_curve', 'resized_pipeline', 'summarise']

RESIZES = {'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size'}


def resized_pipeline(pipeline: Sequence[dict], size: int) -> list[dict]:
    """Return a test pipeline that ends at ``size`` pixels where it ended at another size.

    Args:
        pipeline: its steps; left as they are.
        size: of the last Resize, ResizeEdge or CenterCrop; earlier ones keep their proportion.

    Raises:
        ValueError: no step of it gives a fixed size.
    """
    pipeline = copy.deepcopy(list(pipeline))
    steps = [step for step in pipeline if step['type'].rpartition('.')[2] in RESIZES]
    if not steps:
        raise ValueError(
            f'test pipeline must have a {", ".join(RESIZES)}, got '
            f'{", ".join(step["type"] for step in pipeline)}'
        )
    keys = [RESIZES[step['type'].rpartition('.')[2]] for step in steps]
    last = _short_side(steps[-1][keys[-1]])
    for step, key in zip(steps, keys):
        old = step[key]
        if isinstance(old, int):
            step[key] = round(old * size / last)
        else:
            step[key] = tuple(round(side * size / last) for side in old)
    return pipeline


def _short_side(value: int | Sequence[int]) -> int:
    return value if isinstance(value, int) else min(value)


def evaluate(
    cfg: Config, checkpoint: str, sizes: Sequence[int], work_dir: str | Path
) -> dict[int, dict[str, float]]:
    """Test a classifier once for each input size.

    Args:
        cfg: a classification config.
        checkpoint: of its network.
        sizes: in pixels.
        work_dir: folder of the runs.

    Returns:
        ``{size: metrics}``.

    Raises:
        ValueError: the checkpoint is not of this network.
    """
    from mmengine.runner import Runner

    results = {}
    base = cfg.test_dataloader.dataset.pipeline
    for size in sizes:
        at_size = copy.deepcopy(cfg)
        at_size.test_dataloader.dataset.pipeline = resized_pipeline(base, size)
        at_size.load_from = checkpoint
        at_size.work_dir = str(Path(work_dir) / f'size_{size}')
        at_size.experiment_name = f'{Path(work_dir).name}_{size}_{id(at_size)}'
        runner = Runner.from_cfg(at_size)
        runner.register_hook(LoadReportHook(partial=False))
        results[size] = {key: float(value) for key, value in runner.test().items()}
    return results


def choose_metric(results: Mapping[int, Mapping], wanted: str | None = None) -> str:
    """Return the metric to compare sizes by.

    Args:
        results: what :func:`evaluate` returns.
        wanted: its name; ``None`` for the first.

    Raises:
        ValueError: no metric of that name.
    """
    names = list(next(iter(results.values())))
    if wanted is not None and wanted not in names:
        hint = did_you_mean(wanted, names)
        raise ValueError(f'metric must be one of {", ".join(names)}, got {wanted!r}{hint}')
    return wanted or names[0]


def summarise(results: Mapping[int, Mapping], metric: str) -> dict[str, dict]:
    """Best, lowest and highest size with their values, and what the extremes lose."""
    best = max(results, key=lambda size: results[size][metric])
    ends = dict(best=best, lowest_size=min(results), highest_size=max(results))
    return {
        name: dict(
            size=size, value=results[size][metric], below_best=_gap(results, best, size, metric)
        )
        for name, size in ends.items()
    }


def _gap(results: Mapping, best: int, size: int, metric: str) -> float:
    return results[best][metric] - results[size][metric]


def plot(curves: Mapping[str, Mapping[int, Mapping]], metric: str, file: Path) -> None:
    """Draw one line a model.

    Args:
        curves: name of a model -> what :func:`evaluate` returns.
        metric: on the vertical axis.
        file: to write.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, results in curves.items():
        sizes = sorted(results)
        axes.plot(sizes, [results[size][metric] for size in sizes], marker='o', label=name)
    axes.set_xlabel('input size in pixels')
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def read_curve(file: str | Path) -> tuple[str, dict[int, dict]]:
    """``(name, {size: metrics})`` of an earlier run.

    Args:
        file: the JSON it wrote.

    Raises:
        ValueError: no such file, or not one of this tool.
    """
    try:
        values = read_json(file)
        return values['name'], {int(size): each for size, each in values['results'].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{file} is no result of this tool: {error}') from error
