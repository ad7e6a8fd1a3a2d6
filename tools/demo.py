"""Both halves of the main job without data or network, on drawn scenes of handwritten digits.

    python tools/demo.py

Detection: trains Faster R-CNN with AW-FPN (about 4 minutes on 2 cores), tests it, and leaves the
COCO AP table, the curves and a sheet of predictions. Run again after an interruption, it goes on
where it was; after a finished run it trains anew. Localization, by tools/demo_localization.py:
trains a classifier with CBAM on class names alone and finds the digits with it (2 minutes).
Everything lies in work_dirs/demo.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mmattn.cli.run_log import child_environment, read_scalars, write_json

TOOLS = Path(__file__).absolute().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'faster-rcnn_r18_aw-fpn_350i_digits.py'
STEP = re.compile(r'Iter\((train|val|test)\) *\[ *(\d+)/(\d+)\](.*)')
TABLE = re.compile(r'Average (Precision|Recall) ')
SPLITS = ('train', 'val', 'test')
SURE = 0.3  # score from which a prediction is drawn


class Failed(Exception):
    """A step ended with an error; its own words were shown."""


def data_options(data: Path, steps: int | None) -> list[str]:
    """The settings that point the config to these scenes."""
    options = [f'{split}_dataloader.dataset.data_root={data}/' for split in SPLITS]
    ann_file = data / 'annotations' / 'instances_val.json'
    options += [f'{split}_evaluator.ann_file={ann_file}' for split in SPLITS[1:]]
    if steps:
        options += [f'train_cfg.max_iters={steps}', f'train_cfg.val_interval={steps}']
        options += [
            f'default_hooks.checkpoint.interval={steps}',
            'default_hooks.logger.interval=1',
        ]
    return ['--cfg-options', *options]


def progress(line: str) -> str | None:
    """Shorten a line of mmengine's log to what a person wants to see; None for most lines."""
    found = STEP.search(line)
    if found:
        mode, step, total, rest = found.groups()
        values = dict(re.findall(r'(\S+): +(\S+)', rest))
        if 'coco/bbox_mAP' in values:
            ap, ap50 = values['coco/bbox_mAP'], values['coco/bbox_mAP_50']
            return f'  {"validation" if mode == "val" else mode}: AP {ap}, AP50 {ap50}'
        loss = f'  loss {values["loss"]}' if 'loss' in values else ''
        left = f'  time left {values["eta"]}' if 'eta' in values else ''
        return f'  {mode} {step}/{total}{loss}{left}'
    return line.rstrip() if TABLE.search(line) else None


def call(command: list, log: Path) -> list[str]:
    """Run a step, show its progress, keep every word in the log.

    Returns:
        list[str]: The lines of the COCO table, where the step printed one.

    Raises:
        Failed: The step did; the end of its output was shown.
    """
    lines, table = [], []
    with open(log, 'a', buffering=1) as file:
        process = subprocess.Popen(
            [sys.executable, '-u', *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=child_environment(OMP_WAIT_POLICY='PASSIVE'),  # many times faster on a busy CPU
        )
        try:
            for line in process.stdout:
                file.write(line)
                lines.append(line)
                shown = progress(line)
                if shown and TABLE.search(line):
                    table.append(shown.strip())
                elif shown:
                    print(shown, flush=True)
        finally:
            if process.poll() is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
    if process.returncode:
        print(''.join(lines[-25:]), file=sys.stderr)
        raise Failed(f'{Path(command[0]).name} failed; everything it said is in {log}')
    return table


def unfinished(work_dir: Path, config: Path, options: list[str]) -> bool:
    """Whether an interrupted training of the same config lies here."""
    from mmengine.config import Config

    from mmattn.cli.command_line import parse_options

    dumped = work_dir / config.name
    if not dumped.is_file() or not (work_dir / 'last_checkpoint').is_file():
        return False
    now = Config.fromfile(config)
    now.merge_from_dict(parse_options(options[1:]))
    before = Config.fromfile(dumped)
    same = all(
        before.get(key) == now.get(key)
        for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    )
    return same and not (work_dir / f'iter_{now.train_cfg.max_iters}.pth').is_file()


def train(work_dir: Path, options: list[str], log: Path) -> Path:
    """Train, or go on; returns the last checkpoint."""
    command = [TOOLS / 'train.py', CONFIG, '--work-dir', work_dir]
    if unfinished(work_dir, CONFIG, options):
        print('  an interrupted training is here: going on from its last checkpoint')
        command.append('--resume')
    else:
        shutil.rmtree(work_dir, ignore_errors=True)
    call(command + options, log)
    return Path((work_dir / 'last_checkpoint').read_text().strip())


# --------------------------------------------------------------------------------------- pictures


def draw_curves(path: Path, work_dir: Path, figures: dict) -> None:
    """Draw loss and AP over the steps; the test of the last checkpoint is the last point."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    curves = read_scalars(work_dir)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for name, label in [
        ('loss', 'sum'),
        ('loss_cls', 'class'),
        ('loss_bbox', 'box'),
        ('loss_rpn_cls', 'proposal class'),
        ('loss_rpn_bbox', 'proposal box'),
    ]:
        if name in curves:
            left.plot(*zip(*curves[name]), label=label)
    last = max(step for step, _ in curves['loss'])
    for name, key, label in [
        ('coco/bbox_mAP_50', 'AP50', 'AP50'),
        ('coco/bbox_mAP', 'AP', 'AP (0.50 to 0.95)'),
    ]:
        points = {**dict(curves.get(name, [])), last: figures[key]}
        right.plot(*zip(*sorted(points.items())), marker='o', label=label)
    left.set(title='training loss', xlabel='step')
    left.set_ylim(bottom=0)
    right.set(title='validation', xlabel='step', ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def overlap(a: list, b: list) -> float:
    """Intersection over union of two boxes ``[x1, y1, x2, y2]``."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def truth_of(data: Path) -> tuple[dict, list]:
    """Read the validation boxes: image id to ``(label, box)`` pairs, and the class names."""
    content = json.loads((data / 'annotations' / 'instances_val.json').read_text())
    boxes: dict[int, list] = {image['id']: [] for image in content['images']}
    for entry in content['annotations']:
        x, y, w, h = entry['bbox']
        boxes[entry['image_id']].append((entry['category_id'] - 1, [x, y, x + w, y + h]))
    return boxes, [category['name'] for category in content['categories']]


def surest(found: dict) -> list[tuple]:
    """The surest prediction at each place, as ``(label, box, score)``; the evaluation uses all."""
    rows = zip(found['labels'].tolist(), found['bboxes'].tolist(), found['scores'].tolist())
    kept: list[tuple] = []
    for label, box, score in sorted(rows, key=lambda row: -row[2]):
        if score >= SURE and all(overlap(box, other) < 0.5 for _, other, _ in kept):
            kept.append((label, box, score))
    return kept


def draw_sheet(path: Path, data: Path, predictions: list, scenes: int = 8) -> None:
    """Draw predictions beside the ground truth of the first validation scenes."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import image, patches, pyplot

    truth, names = truth_of(data)
    predictions = predictions[:scenes]
    rows = -(-len(predictions) // 2)
    figure, grid = pyplot.subplots(
        rows, 4, figsize=(12, 3.2 * rows), squeeze=False, constrained_layout=True
    )
    for axes in grid.flat:
        axes.axis('off')

    def show(axes, title, picture, boxes):
        axes.imshow(picture)
        axes.set_title(title, fontsize=9)
        for text, (x1, y1, x2, y2), colour in boxes:
            axes.add_patch(
                patches.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, lw=1.5)
            )
            place = dict(va='bottom') if y1 > 12 else dict(va='top')
            background = dict(facecolor=colour, edgecolor='none', pad=1)
            axes.text(x1, y1, text, fontsize=7, color='white', bbox=background, **place)

    for i, scene in enumerate(predictions):
        picture = image.imread(scene['img_path'])
        real = truth[scene['img_id']]
        left, right = grid[i // 2, i % 2 * 2], grid[i // 2, i % 2 * 2 + 1]
        show(left, 'ground truth', picture, [(names[n], box, 'tab:blue') for n, box in real])
        drawn = []
        for label, box, score in surest(scene['pred_instances']):
            right_one = any(n == label and overlap(box, b) >= 0.5 for n, b in real)
            colour = 'tab:green' if right_one else 'tab:red'
            drawn.append((f'{names[label]} {score:.2f}', box, colour))
        show(right, 'prediction (red: wrong class or place)', picture, drawn)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# ------------------------------------------------------------------------------------ the command


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', default='work_dirs/demo', help='(%(default)s)')
    parser.add_argument('--scenes', type=int, help='to train on (1200; localization 3000)')
    parser.add_argument('--val-scenes', type=int, help='to test on (200; localization 300)')
    parser.add_argument('--steps', type=int, help='training steps (350; localization 750)')
    return parser.parse_args(argv)


def given(args: argparse.Namespace) -> dict:
    """The numbers the user chose; where there is none, each half has its own."""
    names = ('scenes', 'val_scenes', 'steps')
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def detection(args: argparse.Namespace) -> dict:
    """Run all steps of the detection half; returns its figures in summary.json."""
    start, root = time.monotonic(), Path(args.work_dir)
    data, run_dir, log = root / 'digits', root / 'detection', root / 'detection.log'
    root.mkdir(parents=True, exist_ok=True)
    log.write_text('')
    options = data_options(data, args.steps)

    print(f'1/4 scenes of handwritten digits -> {data}', flush=True)
    number = {'scenes': 1200, 'val_scenes': 200, **given(args)}
    scenes = ['--train', number['scenes'], '--val', number['val_scenes']]
    call([TOOLS / 'dataset_converters' / 'make_digits.py', data, *scenes], log)
    print(f'2/4 training Faster R-CNN R18 with AW-FPN from scratch -> {run_dir}', flush=True)
    checkpoint = train(run_dir, options, log)
    print(f'3/4 testing {checkpoint}', flush=True)
    dump = run_dir / 'predictions.pkl'
    command = [
        TOOLS / 'test.py',
        CONFIG,
        checkpoint,
        '--work-dir',
        run_dir / 'test',
        '--out',
        dump,
    ]
    table = call(command + options, log)
    print('4/4 drawing', flush=True)
    metrics = newest_metrics(run_dir / 'test')
    figures = {'AP': metrics['coco/bbox_mAP'], 'AP50': metrics['coco/bbox_mAP_50']}
    draw_curves(root / 'curves.png', run_dir, figures)
    from mmengine.fileio import load

    draw_sheet(root / 'predictions.png', data, load(dump))
    write_json(root / 'summary.json', {'detection': figures}, merge=True)
    say_goodbye(root, checkpoint, table, figures, time.monotonic() - start)
    return figures


def localization(args: argparse.Namespace) -> None:
    """Run the localization half, which shows its own words."""
    command = [sys.executable, TOOLS / 'demo_localization.py', '--work-dir', args.work_dir]
    for name, value in given(args).items():
        command += [f'--{name.replace("_", "-")}', str(value)]
    if subprocess.run(command, check=False, env=child_environment()).returncode:
        raise Failed('the localization half failed; the detection half is complete')


def newest_metrics(folder: Path) -> dict:
    """Read the figures that tools/test.py left."""
    files = sorted(folder.glob('*/*.json'), key=os.path.getmtime)
    return json.loads(files[-1].read_text())


def say_goodbye(root: Path, checkpoint: Path, table: list, figures: dict, seconds: float) -> None:
    """Print the table, where everything lies, and what to try next."""
    print('\n'.join(['', 'COCO evaluation on the validation scenes:', *table]))
    print(f'\nAP {figures["AP"]:.3f}, AP50 {figures["AP50"]:.3f}, {seconds / 60:.1f} minutes')
    print(f"""
  predictions beside ground truth  {root / 'predictions.png'}
  loss and AP curves               {root / 'curves.png'}
  figures for programs             {root / 'summary.json'}
  checkpoint                       {checkpoint}
  log                              {root / 'detection.log'}
  scenes, COCO and VOC layout      {root / 'digits'}

Next, the same with a plain FPN, to compare:
  python {os.path.relpath(TOOLS / 'train.py')} {
        os.path.relpath(CONFIG.with_name(CONFIG.name.replace('aw-fpn', 'fpn')))
    }""")


def main(argv=None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        detection(args)
        print('\nLocalization without boxes', flush=True)
        localization(args)
    except (Failed, OSError, ValueError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ndemo: interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
