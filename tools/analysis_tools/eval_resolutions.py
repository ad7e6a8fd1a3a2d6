"""Accuracy of a classifier over input sizes: a table, a curve and the spread.

    python tools/analysis_tools/eval_resolutions.py CONFIG CHECKPOINT --sizes 128 224 320
    python tools/analysis_tools/eval_resolutions.py OTHER CHECKPOINT --compare work_dirs/a.json

CONFIG is a classification config of mmpretrain. For every size its test pipeline is used with
another size: a Resize gives that size, a CenterCrop cuts it, and what comes before a crop keeps
its proportion to it. Results: OUT.json and OUT.png, and best, highest size and lowest size as in
the paper on top-down attention (TDAM, figure 4). Exit code: 0 all went well, 2 wrong input.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

from mmengine.config import Config, DictAction

from mmattn.cli.command_line import explain
from mmattn.core.checkpoint import LoadReportHook
from mmattn.core.hosts import require_host

RESIZES = {'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size'}


def resized_pipeline(pipeline: list, size: int) -> list:
    """A test pipeline that ends at ``size`` pixels where it ended at another size.

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


def _short_side(value) -> int:
    return value if isinstance(value, int) else min(value)


def evaluate(cfg: Config, checkpoint: str, sizes: list, work_dir: str) -> dict:
    """``{size: metrics}``.

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


def choose_metric(results: dict, wanted: str | None) -> str:
    """The metric to compare sizes by; default the first.

    Raises:
        ValueError: no metric of that name.
    """
    names = list(next(iter(results.values())))
    if wanted is not None and wanted not in names:
        raise ValueError(f'metric must be one of {", ".join(names)}, got {wanted!r}')
    return wanted or names[0]


def summarise(results: dict, metric: str) -> dict:
    """Best, lowest and highest size with their values, and what the extremes lose."""
    best = max(results, key=lambda size: results[size][metric])
    ends = dict(best=best, lowest_size=min(results), highest_size=max(results))
    return {
        name: dict(
            size=size, value=results[size][metric], below_best=_gap(results, best, size, metric)
        )
        for name, size in ends.items()
    }


def _gap(results, best, size, metric) -> float:
    return results[best][metric] - results[size][metric]


def plot(curves: dict, metric: str, file: Path) -> None:
    """One line a model."""
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


def read_curve(file: str) -> tuple:
    """``(name, {size: metrics})`` of an earlier run.

    Raises:
        ValueError: no such file, or not one of this tool.
    """
    try:
        values = json.loads(Path(file).read_text())
        return values['name'], {int(size): each for size, each in values['results'].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{file} is no result of this tool: {error}') from error


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='classification config')
    add('checkpoint', help='its checkpoint')
    add('--sizes', type=int, nargs='+', default=[128, 160, 192, 224, 256, 288, 320])
    add('--metric', help='which metric to plot; default: the first of the evaluation')
    add('--name', help='name of the curve; default: that of the config')
    add('--compare', nargs='*', default=[], metavar='JSON', help='earlier results to draw as well')
    add('--out', help='default: work_dirs/resolutions/NAME')
    add('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    for name in ('config', 'checkpoint'):
        if not Path(getattr(args, name)).is_file():
            raise ValueError(f'{name} {getattr(args, name)} does not exist')
    if min(args.sizes) < 1:
        raise ValueError(f'sizes must be 1 or more, got {min(args.sizes)}')
    return args


def main(argv=None) -> int:
    try:
        args = parse_args(argv)
        require_host('mmpretrain')
        name = args.name or Path(args.config).stem
        out = Path(args.out or f'work_dirs/resolutions/{name}')
        curves = dict(read_curve(file) for file in args.compare)
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options)
        results = evaluate(cfg, args.checkpoint, sorted(set(args.sizes)), str(out) + '_runs')
        metric = choose_metric(results, args.metric)
    except Exception as error:
        ours = isinstance(error, ValueError | ImportError | OSError)
        sentence = str(error) if ours else explain(error)
        if sentence is None:
            raise
        print(f'eval_resolutions: {sentence}', file=sys.stderr)
        return 2
    summary = summarise(results, metric)
    out.parent.mkdir(parents=True, exist_ok=True)
    values = dict(name=name, metric=metric, summary=summary, results=results)
    Path(f'{out}.json').write_text(json.dumps(values, indent=1) + '\n')
    plot({**curves, name: results}, metric, Path(f'{out}.png'))
    for size, metrics in results.items():
        print(f'{size:>6}  {metrics[metric]:.4f}')
    for key, row in summary.items():
        print(
            f'{key:<13} {row["size"]:>5}  {row["value"]:.4f}  ({row["below_best"]:.4f} below best)'
        )
    print(f'{out}.json, {out}.png')
    return 0


if __name__ == '__main__':
    sys.exit(main())
