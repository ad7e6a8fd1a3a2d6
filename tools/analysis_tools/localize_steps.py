"""Where a top-down classifier looks at each of its steps, and what that is worth.

    python tools/analysis_tools/localize_steps.py mmpretrain:CONFIG CHECKPOINT --show dog.jpg
    python tools/analysis_tools/localize_steps.py mmpretrain:CONFIG CHECKPOINT \\
        --images val/ --annotations val_xml/ --work-dir work_dirs/steps

Step k is the network whose last top-down stage stops at step k. With --show every picture gets one
drawing with a panel for each step. With --images each step is evaluated as tools/localize.py does
(its folder is WORK_DIR/step_k), and steps.json and a table tell the steps side by side and the
accuracy over steps by the rule of TDAM's authors, which is no plain accuracy: every step's best
class is kept; where the boxes of two steps overlap with IoU > 0.5, the surer one stands for both;
a picture is right if any kept class is. Exit code: 0 all went well, 1 some pictures could not be
read, 2 wrong input.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from mmattn.backbones.top_down import at_step, count_steps
from mmattn.localization.annotations import FORMATS, load_annotations
from mmattn.localization.boxes import RULES, get_rule
from mmattn.localization.cam import METHODS
from mmattn.localization.classifiers import count_classes, load_classifier
from mmattn.localization.drawing import draw, explain
from mmattn.localization.evaluate import Localizer, Settings
from mmattn.localization.session import localize
from mmattn.localization.sweep import iou_matrix

SHOWN = ('top1_cls', 'top1_loc', 'gt_known', 'max_box_acc')


def run_at(step, forward, model, x):
    """The classifier's scores at one step (a module-level function: it can be pickled)."""
    with at_step(model, step):
        return forward(model, x) if forward else model(x)


def classifiers_of_steps(classifier) -> list:
    """One :class:`Classifier` a step, all around the same network.

    Raises:
        ValueError: the network has no top-down block.
    """
    steps = count_steps(classifier.model)
    if steps == 1:
        name = type(classifier.model).__name__
        raise ValueError(f'model must have a top-down block with 2 steps or more, got {name}')
    return [
        replace(
            classifier,
            name=f'{classifier.name} step {step}',
            forward=partial(run_at, step, classifier.forward),
        )
        for step in range(1, steps + 1)
    ]


def keep_apart(guesses, iou_thr: float = 0.5) -> list:
    """The classes that count by the authors' rule.

    Args:
        guesses: for every step, in order, ``(class, probability, boxes_xyxy)``.
        iou_thr: overlap above which two steps show the same thing.

    Returns:
        The class that stands for each step; the surer of two that overlap stands for both.
    """
    kept = []
    for guess in guesses:
        for index, other in enumerate(kept):
            if _overlap(other[2], guess[2]) > iou_thr:
                if guess[1] > other[1]:
                    kept[index] = guess
                else:
                    guess = other
        kept.append(guess)
    return [label for label, _, _ in kept]


def _overlap(boxes_a, boxes_b) -> float:
    if not len(boxes_a) or not len(boxes_b):
        return 0.0
    return float(iou_matrix(boxes_a[:1], boxes_b[:1])[0, 0])


def look(classifiers, settings, device, path, label=None, truth=(), size=None) -> list:
    """One overlay a step: its best class (or ``label``), score, map and box."""
    overlays = []
    for classifier in classifiers:
        with Localizer(classifier, settings, device, threads=1) as localizer:
            overlays.append(explain(localizer, path, label, truth, size)[0])
    return overlays


def beside(overlays) -> Image.Image:
    """The picture, then one panel for each step."""
    panels = [draw(overlay, max_side=448) for overlay in overlays]
    width, height = (panels[0].width - 8) // 2, panels[0].height
    out = Image.new('RGB', ((len(panels) + 1) * (width + 8) - 8, height), 'white')
    out.paste(panels[0].crop((0, 0, width, height)), (0, 0))
    for number, panel in enumerate(panels, 1):
        out.paste(panel.crop((width + 8, 0, 2 * width + 8, height)), (number * (width + 8), 0))
    return out


def show(classifiers, args, settings, device) -> None:
    """Draw the pictures of --show."""
    classes = count_classes(classifiers[-1], device)
    if args.label is not None and not 0 <= args.label < classes:
        raise ValueError(f'label must be 0 to {classes - 1}, got {args.label}')
    for path in args.show:
        overlays = look(classifiers, settings, device, path, args.label)
        file = Path(args.work_dir) / f'{Path(path).stem}_steps_{settings.cam}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        beside(overlays).save(file)
        names = classifiers[0].classes
        told = [f'{names[o.label] if names else o.label} ({o.score:.2f})' for o in overlays]
        print(f'{file}: {", ".join(f"step {k} {text}" for k, text in enumerate(told, 1))}')


def union(classifiers, settings, device, pictures) -> dict:
    """Accuracy over steps by the authors' rule, and how often a second thing was kept."""
    right = apart = 0
    for picture in pictures:
        overlays = look(classifiers, settings, device, picture.path, size=picture.size)
        kept = keep_apart([(o.label, o.score, o.boxes_xyxy) for o in overlays])
        right += picture.label in kept
        apart += len(set(kept)) > 1
    count = len(pictures)
    return dict(accuracy_over_steps=right / count, pictures_with_two_classes=apart / count)


def evaluate(classifiers, args, settings, device) -> int:
    """Evaluate every step; returns the number of unreadable pictures."""
    annotations = load_annotations(
        args.annotations,
        args.images,
        args.format,
        args.synsets,
        num_classes=count_classes(classifiers[-1], device),
    )
    if annotations.problems and not args.allow_missing:
        listed = ', '.join(f'{n} x {kind}' for kind, n in annotations.problem_counts().items())
        raise ValueError(f'annotations and pictures do not match ({listed}); pass --allow-missing')
    rows = []
    for step, classifier in enumerate(classifiers, 1):
        folder = os.path.join(args.work_dir, f'step_{step}')
        summary = localize(classifier, annotations, settings, folder, device, args.workers)
        rows.append({key: summary.get(key) for key in (*SHOWN, 'failed', 'images')})
    result = dict(steps=rows)
    print(f'{"":<10}' + ''.join(f'{key:>14}' for key in SHOWN))
    for step, row in enumerate(rows, 1):
        values = [f'{row[key]:>14.4f}' if row[key] is not None else f'{"":>14}' for key in SHOWN]
        print(f'step {step:<5}{"".join(values)}')
    if not args.no_union and not rows[0]['failed']:
        result.update(union(classifiers, settings, device, annotations.pictures))
        print(
            f'accuracy over steps (union of the authors, no plain accuracy): '
            f'{result["accuracy_over_steps"]:.4f}'
        )
    file = Path(args.work_dir) / 'steps.json'
    file.write_text(json.dumps(result, indent=1) + '\n')
    print(f'{file}; reports in {args.work_dir}/step_*/report.html')
    return rows[0]['failed']


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('model', nargs='+', metavar='MODEL', help='classifier, and its checkpoint or weights')
    add('--show', nargs='+', metavar='PICTURE', help='draw these pictures, then stop')
    add('--label', type=int, help='class to show, else the best one of each step')
    add('--images', metavar='DIR', help='folder of pictures')
    add('--annotations', metavar='PATH', help='boxes, in any format of tools/localize.py')
    add('--format', choices=FORMATS, help='format of the annotations, else found')
    add('--synsets', metavar='FILE', help='class names in label order, one a line')
    add('--allow-missing', action='store_true', help='leave out pictures that have mismatches')
    add('--cam', choices=METHODS, default='gradcam')
    add('--rule', default='gradcam-0.15', help=', '.join(RULES))
    add('--target-layer', metavar='NAME', help='layer or pattern, else found')
    add('--no-union', action='store_true', help='leave out the accuracy over steps')
    add('--batch-size', type=int, default=32)
    add('--workers', type=int, default=min(4, os.cpu_count() or 1))
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--work-dir', default='work_dirs/localize_steps')
    args = parser.parse_args(argv)
    if len(args.model) > 2:
        raise ValueError(f'give a model and at most one checkpoint, got {" ".join(args.model)}')
    if not args.show and not (args.images and args.annotations):
        raise ValueError('--images and --annotations are needed (or --show PICTURE)')
    return args


def main(argv=None) -> int:
    try:
        args = parse_args(argv)
        classifiers = classifiers_of_steps(load_classifier(*args.model))
        settings = Settings(
            cam=args.cam,
            rule=get_rule(args.rule),
            target=args.target_layer,
            batch_size=args.batch_size,
        )
        if args.show:
            show(classifiers, args, settings, args.device)
            return 0
        return 1 if evaluate(classifiers, args, settings, args.device) else 0
    except (ValueError, TypeError, ImportError) as error:
        print(f'localize_steps: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
