"""Parameters and GMACs of a config's model, and what each inserted module adds.

    python tools/analysis_tools/attention_complexity.py CONFIG [--against CONFIG]
        [--shape H W] [--format table|json|md]

Works for mmdet and mmpretrain configs. The GMACs of a two-stage detector are those of backbone,
neck and RPN: what its other heads cost follows the number of proposals, which an untrained
network draws at random.
"""

import argparse
import json
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmattn.analysis.complexity import Complexity, measure_config
from mmattn.cli.failures import end_run


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    try:
        ours = measure_config(args.config, args.shape, args.cfg_options)
        other = measure_config(args.against, args.shape) if args.against else None
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(end_run('attention_complexity', error))
    print(as_json(ours, other) if args.format == 'json' else as_table(ours, other, args))


def as_json(ours: Complexity, other: Complexity | None) -> str:
    """For programs."""
    record = {
        'params': ours.params,
        'macs': ours.macs,
        'left_out': ours.left_out,
        'added': {name: vars(cost) for name, cost in ours.added.items()},
    }
    if other:
        record['against'] = {'params': other.params, 'macs': other.macs}
        record['difference'] = vars(ours.minus(other))
    return json.dumps(record, indent=2)


def as_table(ours: Complexity, other: Complexity | None, args: argparse.Namespace) -> str:
    """For people, as plain text or Markdown."""
    rows = [('module', 'parameters', 'GMACs')]
    added = dict(ours.added, **({'all inserted modules': ours.all_added} if ours.added else {}))
    rows += [(name, f'+{c.params:,}', f'+{c.macs / 1e9:.4f}') for name, c in added.items()]
    for path, found in ((args.config, ours), (args.against, other)):
        if found:
            without = f' (GMACs without {found.left_out})' if found.left_out else ''
            rows.append((path.stem + without, f'{found.params:,}', f'{found.macs / 1e9:.4f}'))
    if other:
        more = ours.minus(other)
        rows.append(('difference', f'{more.params:+,}', f'{more.macs / 1e9:+.4f}'))
    if args.format == 'md':
        lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
        return '\n'.join([lines[0], '|---|---:|---:|', *lines[1:]])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return '\n'.join(f'{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}' for a, b, c in rows)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='an mmdet or mmpretrain config')
    parser.add_argument('--against', type=Path, help='a config to compare with')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), default=[224, 224], help='image size'
    )
    parser.add_argument('--format', choices=('table', 'json', 'md'), default='table')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='as in tools/train.py')
    args = parser.parse_args(argv)
    if min(args.shape) < 1:
        parser.error(f'--shape must be two sizes >= 1, got {args.shape}')
    return args


if __name__ == '__main__':
    main()
