"""Localize objects with a classifier that was never shown a box, and score the boxes.

    python tools/localize.py torchvision:resnet50 DEFAULT --images val/ --annotations val_xml/
    python tools/localize.py mmpretrain:CONFIG CHECKPOINT --images DIR --annotations PATH --resume
    python tools/localize.py timm:resnet50 pretrained --images photos/ 'shots/*.png'
    python tools/localize.py python:my_net.py:make weights.pth --images photos/ --classes cat dog
    python tools/localize.py timm:resnet50 pretrained --show dog.jpg

With --annotations the boxes are scored; without, they are written: boxes.json (COCO), boxes.csv,
overlays/ and report.html. MODEL is mmpretrain:CONFIG CHECKPOINT, torchvision:NAME [WEIGHTS],
timm:NAME [FILE | pretrained] or python:MODULE:FUNCTION [ARGUMENT], where MODULE is
package.module or path/to/file.py and FUNCTION returns the network, or the network and a dict of
input_size, mean, std, classes. Exit code: 0 all went well, 1 some images could not be read (the
rest was evaluated), 2 an error ended the run, 130 it was interrupted.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import get_dist_info, init_dist

from mmattn.analysis.attention_maps import at_each_step
from mmattn.cli.failures import end_run
from mmattn.cli.option_files import parse_with_file
from mmattn.core.checkpoint import guarded_loading
from mmattn.core.devices import choose_device
from mmattn.core.text import write_text
from mmattn.data.folders import find_images
from mmattn.data.sizes import first_size
from mmattn.deploy import fuse
from mmattn.localization.annotate import BOXES_JSON, annotate, annotated_table
from mmattn.localization.annotations import FORMATS, load_annotations, read_synsets
from mmattn.localization.api import evaluate, show, table
from mmattn.localization.boxes import RULES, get_rule
from mmattn.localization.cam import METHODS
from mmattn.localization.classifiers import Classifier, count_classes, load_classifier
from mmattn.localization.localizer import Settings
from mmattn.localization.results import RunInfo, RunPlan
from mmattn.localization.steps import evaluate_steps, steps_table
from mmattn.localization.structures import AnnotationSet


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('model', nargs='+', metavar='MODEL', help='classifier, and its checkpoint or weights')
    add('--config', help='file that sets any of these options, e.g. rule = dict(threshold=0.3)')
    data = parser.add_argument_group('data')
    data.add_argument(
        '--images',
        nargs='+',
        metavar='PATH',
        help='folder of images, flat or nested; without annotations also files and globs',
    )
    data.add_argument('--annotations', metavar='PATH', help='boxes, in any of the known formats')
    data.add_argument('--format', choices=FORMATS, help='format of the annotations, else found')
    data.add_argument('--synsets', metavar='FILE', help='class names in label order, one a line')
    data.add_argument('--classes', nargs='+', metavar='NAME', help='class names in label order')
    data.add_argument('--split', choices=('test', 'train', 'all'), default='test', help='for CUB')
    data.add_argument(
        '--allow-missing', action='store_true', help='leave out images that have mismatches'
    )
    maps = parser.add_argument_group('maps and boxes')
    maps.add_argument('--cam', choices=METHODS, default='gradcam')
    maps.add_argument(
        '--rule',
        default='gradcam-0.15',
        help=f'{", ".join(RULES)}; with your own threshold as gradcam-0.30',
    )
    maps.add_argument('--target-layer', metavar='NAME', help='layer or pattern, else found')
    maps.add_argument(
        '--steps',
        choices=('last', 'mean', 'all'),
        default='last',
        help='of a layer that is called several times: which map; all: a top-down network '
        '(TDAM) at each of its steps, and the union of its steps',
    )
    maps.add_argument('--reshape', choices=('nchw', 'nhwc', 'tokens'), help='else found')
    maps.add_argument(
        '--maps',
        choices=('true', 'top5'),
        default='true',
        help='true: only the true class, exact and fast; top5: a box for each of the best five',
    )
    maps.add_argument('--iou-thr', type=float, default=0.5)
    maps.add_argument('--sweep-step', type=float, default=0.001, help='0: no MaxBoxAcc')
    prep = parser.add_argument_group('preprocessing (default: from the model)')
    prep.add_argument('--input-size', type=int, nargs='+', metavar='PIXELS', help='side, or H W')
    prep.add_argument('--mean', type=float, nargs=3, metavar=('R', 'G', 'B'), help='0 to 255')
    prep.add_argument('--std', type=float, nargs=3, metavar=('R', 'G', 'B'), help='0 to 255')
    prep.add_argument('--interpolation', choices=('bilinear', 'bicubic'))
    prep.add_argument(
        '--crop-from',
        type=int,
        metavar='EDGE',
        help='resize the short edge, cut the centre; 0: resize the whole image, no crop',
    )
    go = parser.add_argument_group('run')
    go.add_argument('--num-classes', type=int, help='of torchvision, timm and mmpretrain models')
    go.add_argument('--batch-size', type=int, default=32)
    go.add_argument('--workers', type=int, default=min(4, os.cpu_count() or 1))
    go.add_argument('--fuse', action='store_true', help='fold norms into convolutions (faster)')
    go.add_argument(
        '--trust', action='store_true', help='read a checkpoint that holds more than weights'
    )
    go.add_argument('--device', help='default: cuda where there is one, else cpu')
    go.add_argument('--work-dir', help='default: work_dirs/localize/MODEL')
    go.add_argument('--resume', action='store_true', help='continue a run that was stopped')
    go.add_argument(
        '--compare',
        metavar='DIR',
        help='work dir of a finished run over the same images: both beside each other, with a '
        'paired interval',
    )
    go.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    go.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    look = parser.add_argument_group('images without annotations')
    look.add_argument('--show', nargs='+', metavar='IMAGE', help='draw map and box, then stop')
    look.add_argument('--label', type=int, help='class to find, else the best one of each image')
    look.add_argument(
        '--overlays',
        type=int,
        metavar='COUNT',
        help='draw only the first images of --images (0: none)',
    )
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; a config file's values lie between it and the defaults."""
    args = parse_with_file(build_parser(), argv, fixed=('model', 'local_rank'))
    if len(args.model) > 2:
        raise ValueError(f'give a model and at most one checkpoint, got {" ".join(args.model)}')
    if not args.show:
        _check_data(args)
    if args.synsets and args.classes:
        raise ValueError('give the class names with --synsets or with --classes, not with both')
    if args.workers < 0:
        raise ValueError(f'workers must be 0 or more, got {args.workers}')
    return args


def _check_data(args: argparse.Namespace) -> None:
    if args.images is None:
        raise ValueError('--images is needed (or --show IMAGE to draw one image)')
    if args.annotations is not None:
        if len(args.images) > 1:
            raise ValueError(
                f'--images must be one folder where there are annotations, got {len(args.images)}'
            )
        if args.label is not None:
            raise ValueError('--label is for images without annotations: these have the class')
        return
    for name in ('compare', 'format'):
        if getattr(args, name) is not None:
            raise ValueError(f'--{name} needs --annotations')
    if args.steps == 'all':
        raise ValueError("--steps all needs --annotations or --show; 'last' and 'mean' do not")


def make_settings(args: argparse.Namespace) -> Settings:
    """Make the settings that the command line asks for."""
    return Settings(
        cam=args.cam,
        rule=get_rule(args.rule),
        target=args.target_layer,
        steps='last' if args.steps == 'all' else args.steps,
        reshape=args.reshape,
        maps=args.maps,
        iou_thr=args.iou_thr,
        sweep_step=args.sweep_step,
        batch_size=args.batch_size,
    )


def make_classifier(args: argparse.Namespace) -> Classifier:
    """Load the classifier; preprocessing flags win over what its config says."""
    size = args.input_size and tuple((args.input_size * 2)[:2])
    if args.input_size and len(args.input_size) > 2:
        raise ValueError(f'input-size takes one or two numbers, got {args.input_size}')
    classifier = load_classifier(*args.model, num_classes=args.num_classes, input_size=size)
    if args.fuse:
        fuse(classifier.model, channels_last=True)
    changed = classifier.preprocess.changed(
        size, args.mean, args.std, args.interpolation, args.crop_from
    )
    return replace(classifier, preprocess=changed)


def with_names(classifier: Classifier, args: argparse.Namespace, count: int) -> Classifier:
    """Give the classifier the class names that the user named."""
    source, names = 'classes', args.classes
    if args.synsets:
        if not os.path.isfile(args.synsets):
            raise ValueError(f'synsets: {args.synsets} does not exist')
        source, names = f'synsets: {args.synsets}', read_synsets(args.synsets).names
    if names is None:
        return classifier
    if len(names) != count:
        raise ValueError(f'{source} names {len(names)} classes and the classifier has {count}')
    return replace(classifier, classes=tuple(names))


def start_processes(args: argparse.Namespace) -> None:
    """Join the other processes where a launcher started several."""
    if args.launcher == 'none':
        return
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if torch.cuda.is_available():
        init_dist(args.launcher)
    elif args.launcher == 'pytorch':  # mmengine's own start always asks for a GPU
        torch.distributed.init_process_group('gloo')
    else:
        raise ValueError(
            f'launcher {args.launcher} needs a GPU in every process; on CPUs use '
            'tools/dist_localize.sh'
        )


def read_annotations(
    args: argparse.Namespace, classifier: Classifier, classes: int, work_dir: str
) -> AnnotationSet:
    """Read the annotations and match them with the images."""
    annotations = load_annotations(
        args.annotations,
        args.images[0],
        args.format,
        args.synsets,
        args.split,
        classes,
        classifier.classes,
    )
    if get_dist_info()[0] == 0 or not args.allow_missing:
        what = f'{args.annotations} and {args.images[0]}'
        report_problems(annotations, args.allow_missing, work_dir, what)
    return annotations


def report_problems(annotations: AnnotationSet, allow: bool, work_dir: str, what: str) -> None:
    """Print mismatches and list all in a file; they end the run unless they are allowed."""
    counts = annotations.problem_counts()
    if not counts:
        return
    for kind, count in counts.items():
        examples = [p for p in annotations.problems if p.kind == kind][:3]
        shown = '; '.join(f'{p.key}: {p.detail}' for p in examples)
        print(f'{count} x {kind}: {shown}{" ..." if count > 3 else ""}', file=sys.stderr)
    file = Path(work_dir) / 'problems.txt'
    try:
        lines = [f'{p.kind}\t{p.key}\t{p.detail}\n' for p in annotations.problems]
        write_text(file, ''.join(lines))
    except OSError as error:
        raise ValueError(f'work dir {work_dir} cannot be written: {error}') from error
    if not allow:
        raise ValueError(
            f'{what} do not match ({annotations.problem_list()}; all in {file}); correct them, or '
            'pass --allow-missing to evaluate the rest'
        )


def work_dir_of(args: argparse.Namespace) -> str:
    """Take the given folder, or one named after the model."""
    if args.work_dir:
        return args.work_dir
    name = ''.join(c if c.isalnum() or c in '-_.' else '_' for c in args.model[0])
    return os.path.join('work_dirs', 'localize', name.strip('_.'))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    try:
        args = parse_args(argv)
        start_processes(args)
        settings = make_settings(args)
        with guarded_loading(args.trust):
            classifier = make_classifier(args)
        device = choose_device(args.device)
        work_dir = work_dir_of(args)
        images = args.show or find_images(args.images)
        classes = count_classes(classifier, image_size=first_size(images))
        if args.annotations is None or args.classes:  # else they are matched by name
            classifier = with_names(classifier, args, classes)
        steps = at_each_step(classifier) if args.steps == 'all' else []
        if args.show:
            calls = 'last' if steps else args.steps
            for file, name, score, boxes in show(
                steps or [classifier], args.show, settings, work_dir, device, args.label, calls
            ):
                corners = '; '.join(' '.join(f'{v:.0f}' for v in box) for box in boxes)
                print(f'{file}: {name} ({score:.2f}), box {corners}')
            return 0
        if args.steps == 'all' and not steps:
            raise ValueError(
                "steps must be 'last' or 'mean' in an evaluation of a network without top-down "
                "blocks, got 'all'"
            )
        world = get_dist_info()[1]
        start = ['python'] if world == 1 else ['torchrun', f'--nproc-per-node={world}']
        command = shlex.join([*start, 'tools/localize.py', *(argv or sys.argv[1:])])
        weights = args.model[1] if len(args.model) > 1 else None
        info = RunInfo(args.annotations or '', weights, args.fuse, command, args.compare)
        plan = RunPlan(settings, work_dir, device, args.workers, args.resume, info)
        if args.annotations is None:
            summary = annotate(classifier, images, plan, args.label, args.overlays)
        else:
            annotations = read_annotations(args, classifier, classes, work_dir)
            score = partial(evaluate_steps, steps) if steps else partial(evaluate, classifier)
            summary = score(annotations, plan)
    except Exception as error:
        return end_run('localize', error, code=2)
    except KeyboardInterrupt:
        print('localize: stopped; the same command with --resume continues', file=sys.stderr)
        return 130
    if summary is None:
        return 0
    if args.annotations is None:
        print(annotated_table(summary))
        print(f'boxes: {os.path.join(work_dir, BOXES_JSON)}')
    else:
        print(steps_table(summary) if steps else table(summary))
    print(f'report: {os.path.join(work_dir, "step_*" if steps else "", "report.html")}')
    return 1 if summary['failed'] else 0


if __name__ == '__main__':
    code = main()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.exit(code)
