"""Start a detector from a classifier: its backbone's weights, in the names of your config.

    python tools/model_converters/classifier_to_detector.py CHECKPOINT CONFIG START.pth
    python tools/model_converters/classifier_to_detector.py resnet50-cbam.pth \\
        configs/attention_resnet/faster-rcnn_r50-cbam_fpn_1x_coco.py start.pth --out mine.py
    python tools/train.py mine.py

CHECKPOINT is of mmpretrain (any backbone of mmattn), torchvision (also torchvision://resnet50),
timm (ResNets, also with SE or ECA) or of the authors of CBAM and BAM; CONFIG is an mmdet config
with the same backbone. Prints what fits and what does not, from both sides. Exit code: 0 written,
2 refused.
"""

import argparse
import sys
from pathlib import Path

from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.core.text import write_text
from mmattn.insertion import detector_config, detector_start, leaf_text, read_config


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='of the classifier: a file or an address')
    parser.add_argument('config', help='of the detector: a file, or mmdet::FOLDER/NAME.py')
    parser.add_argument('start', help='file to write: load_from of the training')
    parser.add_argument('--out', help='write a config here that trains from the start')
    parser.add_argument(
        '--trust', action='store_true', help='read a checkpoint that holds more than weights'
    )
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith('.py'):
        parser.error(f'--out must end in .py, got {args.out}')
    return args


def convert(args: argparse.Namespace) -> None:
    """Read, write, and print both sides."""
    plain = read_config(args.config)
    start = detector_start(plain, args.checkpoint)
    start.save(args.start)
    print(f'checkpoint of {start.family}; backbone: {start.report.summary()}')
    for note in start.notes:
        print(f'note: {note}')
    print(f'written: {args.start}')
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        new = detector_config(plain, args.start)
        write_text(args.out, leaf_text(args.config, plain, new, args.out))
        print(f'written: {args.out}')
    else:
        print(
            f'train with: python tools/train.py {args.config} --cfg-options load_from={args.start}'
        )


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        with guarded_loading(args.trust):
            convert(args)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('classifier_to_detector', error, code=2)
    return 0


if __name__ == '__main__':
    sys.exit(main())
