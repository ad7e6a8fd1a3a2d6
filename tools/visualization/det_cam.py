"""Paint what speaks for a detector's boxes: Grad-CAM, LayerCAM and others, boxes drawn.

    python tools/visualization/det_cam.py CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/det_cam.py CONFIG CHECKPOINT IMAGE --class person --method layercam
    python tools/visualization/det_cam.py CONFIG CHECKPOINT IMAGE --detection 0 4 --level 1

One PNG an image: all boxes, then a map for each of the surest three detections, for those that
--detection names, or one for all detections of --class.
"""

import argparse
import sys
from pathlib import Path

from mmattn.analysis import det_cam, loading, views
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.localization.methods import METHODS


def paint(args: argparse.Namespace) -> None:
    model, cfg, saved = loading.load_model(args.config, args.checkpoint)
    if not loading.is_detector(model):
        raise ValueError(
            f'{args.config} is no detector: a classifier is shown by vis_attention.py cam'
        )
    classes = loading.class_names(cfg, saved)
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        found = det_cam.detect(model, data)
        asked = det_cam.choose_detections(
            found, classes, args.detection, args.label, args.count, args.score_thr
        )
        maps = det_cam.explain_detections(model, data, asked, args.method, args.layer, args.level)
        file = Path(args.out_dir) / f'{Path(path).stem}_{args.method}.png'
        views.paint_detections(maps, found, image, data['inputs'].shape[2:], file, args.score_thr)
        titles = '; '.join(one.title for one in maps) or f'nothing with {args.score_thr} and more'
        print(f'{file}: {titles}')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of a detector of mmdet')
    parser.add_argument('checkpoint')
    parser.add_argument('images', nargs='+')
    parser.add_argument(
        '--method',
        choices=[name for name in METHODS if name != 'cam'],
        default='gradcam',
        help='(%(default)s)',
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        *('--detection', '--detections'),
        type=int,
        nargs='+',
        default=[],
        metavar='N',
        help='these detections, counted from the surest, 0',
    )
    what.add_argument('--class', dest='label', help='all detections of a class, name or index')
    what.add_argument('--count', type=int, default=3, help='else so many detections (%(default)s)')
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--level', type=int, metavar='N', help="one of the neck's maps (default: all together)"
    )
    where.add_argument('--layer', help='a module of the network, such as backbone.layer4')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='of boxes that count (%(default)s)'
    )
    parser.add_argument('--out-dir', default='work_dirs/det_cam', help='(%(default)s)')
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints that hold more than weights'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        with guarded_loading(args.trust):
            paint(args)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('det_cam', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
