"""Add attention to a config: any method in any detector or classifier.

    python tools/add_attention.py --list
    python tools/add_attention.py mmdet::retinanet/retinanet_r50_fpn_1x_coco.py CBAM
    python tools/add_attention.py CONFIG.py CBAM AWFPN -o configs/mine.py
    python tools/add_attention.py CONFIG.py CBAM -o mine.py --checkpoint PLAIN.pth --save START.pth

It prints what was added and the leaf config, which runs with mmdet's own tools. With a plain
checkpoint it writes the start of the training and runs both networks on a few images.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.core.text import write_text
from mmattn.insertion import (
    add_attention,
    is_lazy,
    largest_difference,
    leaf_text,
    method_list,
    read_config,
    report,
    warm_start,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', help='config file, or mmdet::FOLDER/NAME.py')
    parser.add_argument('methods', nargs='*', metavar='METHOD', help='added in this order')
    parser.add_argument('--list', action='store_true', help='print the methods and their places')
    parser.add_argument(
        '--where', nargs='+', help='backbone, neck, head, model, or a head by its name'
    )
    parser.add_argument('--stages', nargs='+', type=int, help='stages from 0; maps of a neck')
    parser.add_argument('--position', help='such as after_conv3; or a pattern of module names')
    parser.add_argument('--init', choices=['identity', 'paper'], help='default: by the config')
    parser.add_argument(
        '--options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE',
        help='options of the method, such as reduction=8',
    )  # fmt: skip
    parser.add_argument('-o', '--out', help='write the leaf config here')
    parser.add_argument('--checkpoint', help='plain checkpoint to start from')
    parser.add_argument(
        '--trust', action='store_true', help='read a checkpoint that holds more than weights'
    )
    parser.add_argument('--save', help='write the start of the training here')
    parser.add_argument('--images', type=int, default=2, help='images to run both networks on')
    args = parser.parse_args(argv)
    if not args.list and not args.methods:
        parser.error('CONFIG and METHOD are required (or --list)')
    if args.save and not args.checkpoint:
        parser.error('--save needs --checkpoint')
    if args.out and not args.out.endswith('.py'):
        parser.error(f'--out must end in .py, got {args.out}')
    return args


def add(args: argparse.Namespace) -> None:
    """Add, print, write."""
    plain = read_config(args.config)
    base = read_config(args.config)
    if args.checkpoint:
        base.load_from = args.save or args.checkpoint
    new = add_attention(
        base,
        args.methods[0] if len(args.methods) == 1 else args.methods,
        where=args.where,
        stages=args.stages,
        position=args.position,
        init=args.init,
        **args.options,
    )
    print(report(new))
    if is_lazy(args.config):
        text = new.pretty_text  # mmengine gives such a config no leaf with _base_
    else:
        text = leaf_text(args.config, plain, new, args.out)
    print(f'\n{text}', end='')
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(args.out, text)
        print(f'\nwritten: {args.out}')
    if args.checkpoint:
        start = warm_start(plain, new, args.checkpoint)
        print(f'\ncheckpoint: {start.report.summary()}')
        if args.save:
            start.save(args.save)
            print(f'written: {args.save}')
        difference = largest_difference(start, new, args.images)
        print(f'largest difference to the plain network: {difference}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    if args.list:
        print(method_list())
        return 0
    try:
        with guarded_loading(args.trust):
            add(args)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('add_attention', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
