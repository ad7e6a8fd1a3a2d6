"""``python -m mmattn.study.job FOLDER``: one prepared run, in a process of its own."""

import argparse
import os
import sys

import torch


def main(argv: list[str] | None = None) -> int:
    """Execute the run of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('--launcher', default='none')
    parser.add_argument('--threads', type=int, help='CPU threads')
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    os.environ.setdefault('LOCAL_RANK', '0')

    from mmattn.study.runs import execute

    try:
        execute(args.folder, args.launcher)
    except KeyboardInterrupt:
        return 130
    except Exception:  # its stack is in the log, its sentence in the run's state
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
