"""Both halves of the main job without data or network, on drawn scenes of handwritten digits.

    python tools/demo.py

Detection: trains Faster R-CNN with AW-FPN (about 4 minutes on 2 cores), tests it, and leaves the
COCO AP table, the curves and a sheet of predictions. Run again after an interruption, it
resumes; after a finished run it trains from scratch. Localization, by tools/demo_localization.py:
trains a classifier with CBAM on class names alone and finds the digits with it (2 minutes).
Everything lies in work_dirs/demo.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from mmattn.cli.detection_demo import Detected, detect_digits
from mmattn.cli.failures import end_run
from mmattn.cli.run_log import child_environment
from mmattn.cli.steps import StepFailed

TOOLS = Path(__file__).absolute().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'faster-rcnn_r18_aw-fpn_350i_digits.py'


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


def localization(args: argparse.Namespace) -> None:
    """Run the localization half, which shows its own words."""
    command = [sys.executable, TOOLS / 'demo_localization.py', '--work-dir', args.work_dir]
    for name, value in given(args).items():
        command += [f'--{name.replace("_", "-")}', str(value)]
    if subprocess.run(command, check=False, env=child_environment()).returncode:
        raise StepFailed('the localization half failed; the detection half is complete')


def say_goodbye(root: Path, found: Detected, seconds: float) -> None:
    """Print the table, where everything lies, and what to try next."""
    figures = found.figures
    print('\n'.join(['', 'COCO evaluation on the validation scenes:', *found.table]))
    print(f'\nAP {figures["AP"]:.3f}, AP50 {figures["AP50"]:.3f}, {seconds / 60:.1f} minutes')
    print(f"""
  predictions beside ground truth  {root / 'predictions.png'}
  loss and AP curves               {root / 'curves.png'}
  figures for programs             {root / 'summary.json'}
  checkpoint                       {found.checkpoint}
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
        start, root = time.monotonic(), Path(args.work_dir)
        found = detect_digits(TOOLS, CONFIG, root, **given(args))
        say_goodbye(root, found, time.monotonic() - start)
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
