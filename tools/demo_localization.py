"""Train a classifier on one-digit scenes, class names only, and let it localize the digits.

    python tools/demo_localization.py

The second half of ``make demo``, 2 minutes on 2 cores: draws the scenes, trains a small ResNet-18
with CBAM, runs tools/localize.py on scenes it has never seen, and ends with the table and the
report's path. No box is used in training. Everything lies in work_dirs/demo/localization.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from mmattn.cli.run_log import child_environment, write_json
from mmattn.cli.steps import StepFailed, run_step

TOOLS = Path(__file__).absolute().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'resnet18-cbam_750i_one-digit.py'
# A digit is three cells of the last map wide, and the map fades out over another cell on every
# side: at 15 % of the maximum all of that is inside the box. The training scenes say 50 %.
MAPS = ('--cam', 'layercam', '--rule', 'gradcam-0.50')


def localization_demo(root: Path, scenes: int, val_scenes: int, steps: int) -> dict:
    """Draw, train, localize, report; returns the summary of tools/localize.py."""
    if steps < 1:
        raise ValueError(f'steps must be at least 1, got {steps}')
    work, data, log = root / 'localization', root / 'one_digit', root / 'localization.log'
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log.write_text('')
    step = partial(run_step, log=log)
    print(f'1/3 scenes of one digit each -> {data}', flush=True)
    number = ['--train', scenes, '--val', val_scenes, '--size', 32, '--one-digit']
    step([TOOLS / 'dataset_converters' / 'make_digits.py', data, *number])
    print('2/3 training ResNet-18 with CBAM, class names only', flush=True)
    settings = {
        **{f'{split}_dataloader.dataset.data_root': data for split in ('train', 'val', 'test')},
        'train_cfg.max_iters': steps,
        'train_cfg.val_interval': steps,
        'param_scheduler.total_steps': steps,
        'default_hooks.checkpoint.interval': steps,
        'default_hooks.logger.interval': min(steps, 50),
    }
    options = ['--cfg-options', *(f'{key}={value}' for key, value in settings.items())]
    step([TOOLS / 'train.py', CONFIG, '--work-dir', work / 'classifier', *options])
    print('3/3 localizing digits it was never told the place of', flush=True)
    localize(
        f'mmpretrain:{CONFIG}',
        work / 'classifier' / f'iter_{steps}.pth',
        *('--images', data / 'val', '--annotations', data / 'annotations/instances_val.json'),
        *(*MAPS, '--work-dir', work / 'result', '--workers', 0, '--device', 'cpu'),
    )
    summary = json.loads((work / 'result/summary.json').read_text())
    figures = {key: summary[key] for key in ('gt_known', 'top1_loc', 'top5_loc', 'top1_cls')}
    figures['centre_box'] = summary['baseline']['gt_known']
    write_json(root / 'summary.json', {'localization': figures}, merge=True)
    return summary


def localize(*options: object) -> None:
    """Run tools/localize.py, whose own words are the result."""
    command = [sys.executable, str(TOOLS / 'localize.py'), *map(str, options)]
    if subprocess.run(command, check=False, env=child_environment()).returncode:
        raise StepFailed(f'this step failed: {shlex.join(command)}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default='work_dirs/demo', help='(%(default)s)')
    parser.add_argument('--scenes', type=int, default=3000, help='to train on (%(default)s)')
    parser.add_argument('--val-scenes', type=int, default=300, help='to test on (%(default)s)')
    parser.add_argument('--steps', type=int, default=750, help='training steps (%(default)s)')
    args = parser.parse_args(argv)
    try:
        localization_demo(args.work_dir, args.scenes, args.val_scenes, args.steps)
    except (RuntimeError, ValueError, OSError) as error:
        print(f'demo_localization: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ndemo_localization: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
