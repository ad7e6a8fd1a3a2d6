"""Both halves of the main job without data or network, on drawn scenes of handwritten digits.

    python tools/demo.py

Detection: trains Faster R-CNN with AW-FPN (about 4 minutes on 2 cores), tests it, and leaves the
COCO AP table, the curves and a sheet of predictions. Run again after an interruption, it
resumes; after a finished run it trains from scratch. Localization, by tools/demo_localization.py:
trains a classifier with CBAM on class names alone and finds the digits with it (2 minutes).
Everything lies in work_dirs/demo.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mmengine.fileio import load

from mmattn.analysis.sheets import draw_curves, draw_sheet
from mmattn.cli.failures import end_run
from mmattn.cli.run_log import child_environment, read_scalars, write_json
from mmattn.cli.steps import StepFailed, run_step, unfinished

TOOLS = Path(__file__).absolute().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'faster-rcnn_r18_aw-fpn_350i_digits.py'
SPLITS = ('train', 'val', 'test')


def data_options(data: Path, steps: int | None) -> list[str]:
    """Return the settings that point the config to these scenes."""
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


def train(work_dir: Path, options: list[str], log: Path) -> Path:
    """Train, or resume; returns the last checkpoint."""
    command = [TOOLS / 'train.py', CONFIG, '--work-dir', work_dir]
    if unfinished(work_dir, CONFIG, options):
        print('  an interrupted training is here: resuming from its last checkpoint')
        command.append('--resume')
    else:
        shutil.rmtree(work_dir, ignore_errors=True)
    run_step(command + options, log)
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
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
    """Return the values the user chose; where there is none, each half has its own."""
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
    run_step([TOOLS / 'dataset_converters' / 'make_digits.py', data, *scenes], log)
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
    table = run_step(command + options, log)
    print('4/4 drawing', flush=True)
    metrics = newest_metrics(run_dir / 'test')
    figures = {'AP': metrics['coco/bbox_mAP'], 'AP50': metrics['coco/bbox_mAP_50']}
    draw_curves(root / 'curves.png', read_scalars(run_dir), figures)
    truth = data / 'annotations' / 'instances_val.json'
    draw_sheet(root / 'predictions.png', truth, load(dump))
    write_json(root / 'summary.json', {'detection': figures}, merge=True)
    say_goodbye(root, checkpoint, table, figures, time.monotonic() - start)
    return figures


def localization(args: argparse.Namespace) -> None:
    """Run the localization half, which shows its own words."""
    command = [sys.executable, TOOLS / 'demo_localization.py', '--work-dir', args.work_dir]
    for name, value in given(args).items():
        command += [f'--{name.replace("_", "-")}', str(value)]
    if subprocess.run(command, check=False, env=child_environment()).returncode:
        raise StepFailed('the localization half failed; the detection half is complete')


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


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        detection(args)
        print('\nLocalization without boxes', flush=True)
        localization(args)
    except KeyboardInterrupt:
        print('\ndemo: interrupted; the same command resumes from here', file=sys.stderr)
        return 130
    except StepFailed as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except Exception as error:
        return end_run('demo', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
