"""Parameters and GMACs of a config's model, and what each inserted module adds.

    python tools/analysis_tools/attention_complexity.py CONFIG [--against CONFIG]
        [--shape H W] [--format table|json|md]

Works for mmdet and mmpretrain configs. A detector's figure includes the proposals that its
randomly initialised heads happen to keep; compare necks and backbones, or use --against.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

from mmattn.analysis.complexity import Complexity, measure_complexity


def main() -> None:
    args = parse_args()
    try:
        ours = complexity_of(args.config, args.shape, args.cfg_options)
        other = complexity_of(args.against, args.shape, None) if args.against else None
    except (ValueError, TypeError, KeyError, ImportError, OSError, SyntaxError) as error:
        sys.exit(f'error: {error.args[0] if isinstance(error, KeyError) else error}')
    print({'json': as_json, 'md': as_table, 'table': as_table}[args.format](ours, other, args))


def complexity_of(config: Path, shape: list[int], options: dict | None) -> Complexity:
    """Count one picture of ``shape`` through the model of ``config``."""
    if not config.is_file():
        raise FileNotFoundError(f'config file not found: {config}')
    cfg = Config.fromfile(config)
    if options:
        cfg.merge_from_dict(options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)  # weights are not loaded, counts do not need them
    image = torch.rand(1, 3, *shape)
    if hasattr(model, 'bbox_head') or hasattr(model, 'roi_head'):
        return measure_complexity(model, image, _samples(shape), mode='tensor')
    return measure_complexity(model, image, mode='tensor')


def _samples(shape: list[int]) -> list:
    from mmdet.structures import DetDataSample

    sizes = dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape, pad_shape=shape)
    return [DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0), img_id=0))]


def as_json(ours: Complexity, other: Complexity | None, args: argparse.Namespace) -> str:
    record = {
        'params': ours.params,
        'macs': ours.macs,
        'added': {name: vars(cost) for name, cost in ours.added.items()},
    }
    if other:
        record['against'] = {'params': other.params, 'macs': other.macs}
    return json.dumps(record, indent=2)


def as_table(ours: Complexity, other: Complexity | None, args: argparse.Namespace) -> str:
    rows = [('module', 'parameters', 'GMACs')]
    rows += [(name, f'+{c.params:,}', f'+{c.macs / 1e9:.4f}') for name, c in ours.added.items()]
    if ours.added:
        params, macs = (
            sum(getattr(c, key) for c in ours.added.values()) for key in ('params', 'macs')
        )
        rows.append(('all inserted modules', f'+{params:,}', f'+{macs / 1e9:.4f}'))
    rows.append((args.config.stem, f'{ours.params:,}', f'{ours.macs / 1e9:.4f}'))
    if other:
        rows.append((args.against.stem, f'{other.params:,}', f'{other.macs / 1e9:.4f}'))
        more = (ours.params - other.params, (ours.macs - other.macs) / 1e9)
        rows.append(('difference', f'{more[0]:+,}', f'{more[1]:+.4f}'))
    if args.format == 'md':
        lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
        return '\n'.join([lines[0], '|---|---:|---:|', *lines[1:]])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return '\n'.join(f'{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}' for a, b, c in rows)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='an mmdet or mmpretrain config')
    parser.add_argument('--against', type=Path, help='a config to compare with')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), default=[224, 224], help='picture size'
    )
    parser.add_argument('--format', choices=('table', 'json', 'md'), default='table')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='as in tools/train.py')
    args = parser.parse_args()
    if min(args.shape) < 1:
        parser.error(f'--shape must be two sizes >= 1, got {args.shape}')
    return args


if __name__ == '__main__':
    main()
