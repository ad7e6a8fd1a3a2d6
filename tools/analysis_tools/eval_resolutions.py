"""Accuracy of a classifier over input sizes: a table, a curve and the spread.

    python tools/analysis_tools/eval_resolutions.py CONFIG CHECKPOINT --sizes 128 224 320
    python tools/analysis_tools/eval_resolutions.py OTHER CHECKPOINT --compare work_dirs/a.json

CONFIG is a classification config of mmpretrain. For every size its test pipeline is used with
another size: a Resize gives that size, a CenterCrop cuts it, and what comes before a crop keeps
its proportion to it. Results: OUT.json and OUT.png, and best, highest size and lowest size as in
the paper on top-down attention (TDAM, figure 4). Exit code: 0 all went well, 2 wrong input.
"""

import argparse
import json
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmattn.analysis import resolutions
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.core.config import read_config
from mmattn.core.hosts import require_host


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
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
    add('--trust', action='store_true', help='read a checkpoint that holds more than weights')
    add('--out', help='default: work_dirs/resolutions/NAME')
    add('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    for name in ('config', 'checkpoint'):
        if not Path(getattr(args, name)).is_file():
            raise ValueError(f'{name} {getattr(args, name)} does not exist')
    if min(args.sizes) < 1:
        raise ValueError(f'sizes must be 1 or more, got {min(args.sizes)}')
    return args


def main(argv: list[str] | None = None) -> int:
    try:
        args = parse_args(argv)
        require_host('mmpretrain')
        name = args.name or Path(args.config).stem
        out = Path(args.out or f'work_dirs/resolutions/{name}')
        curves = dict(resolutions.read_curve(file) for file in args.compare)
        cfg = read_config(args.config)
        cfg.merge_from_dict(args.cfg_options)
        with guarded_loading(args.trust):
            results = resolutions.evaluate(
                cfg, args.checkpoint, sorted(set(args.sizes)), str(out) + '_runs'
            )
        metric = resolutions.choose_metric(results, args.metric)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('eval_resolutions', error, code=2)
    summary = resolutions.summarise(results, metric)
    out.parent.mkdir(parents=True, exist_ok=True)
    values = dict(name=name, metric=metric, summary=summary, results=results)
    Path(f'{out}.json').write_text(json.dumps(values, indent=1) + '\n')
    resolutions.plot({**curves, name: results}, metric, Path(f'{out}.png'))
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
