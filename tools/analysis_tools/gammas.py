"""List every learned gamma of a checkpoint: how much of each method the network uses.

    python tools/analysis_tools/gammas.py CHECKPOINT [CHECKPOINT ...]

A method with init='identity' starts as a no-op, gamma = 0; a gamma that stayed there says that the
network does without it, 1 is the method as published. Several checkpoints, such as those of one
training, are columns.
"""

import argparse
import sys

from mmattn.analysis.gammas import gammas_of
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import find_state, guarded_loading, load_checkpoint


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        with guarded_loading(args.trust):
            columns = [gammas_of(find_state(load_checkpoint(path))) for path in args.checkpoint]
        names = list(dict.fromkeys(name for column in columns for name in column))
        if not names:
            raise ValueError(
                f'{" ".join(args.checkpoint)} holds no gamma: no method of it has init="identity"'
            )
    except (Exception, KeyboardInterrupt) as error:
        return end_run('gammas', error)
    width = max(map(len, names))
    for name in names:
        values = (f'{c[name]:+9.4f}' if name in c else f'{"-":>9}' for c in columns)
        print(f'{name:{width}}', *values)
    unused = sum(abs(columns[-1].get(name, 0)) < args.unused for name in names)
    print(f'{len(names)} gammas, {unused} of them below {args.unused} (hardly used)')
    return 0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', nargs='+', help='checkpoint files, the newest last')
    parser.add_argument(
        '--unused', type=float, default=0.01, help='count those below this value (%(default)s)'
    )
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints that hold more than weights'
    )
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(main())
