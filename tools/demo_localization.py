"""Train a classifier on one-digit scenes, class names only, and let it localize the digits.

    python tools/demo_localization.py

The second half of ``make demo``, 2 minutes on 2 cores: draws the scenes, trains a small ResNet-18
with CBAM, localizes the digits of scenes it has never seen, and ends with the table and the
report's path. No box is used in training. Everything lies in work_dirs/demo/localization.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # many times faster on a busy CPU

from mmattn.cli.failures import end_run
from mmattn.cli.localization_demo import localize_digits
from mmattn.localization.api import table


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', default='work_dirs/demo', help='(%(default)s)')
    parser.add_argument('--scenes', type=int, default=3000, help='to train on (%(default)s)')
    parser.add_argument('--val-scenes', type=int, default=300, help='to test on (%(default)s)')
    parser.add_argument('--steps', type=int, default=750, help='training steps (%(default)s)')
    args = parser.parse_args(argv)
    try:
        summary = localize_digits(args.work_dir, args.scenes, args.val_scenes, args.steps)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('demo_localization', error)
    print(table(summary))
    print(f'report: {Path(args.work_dir, "localization", "result", "report.html")}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
