"""A file that sets the options of a command line."""

import argparse
import os
from collections.abc import Sequence

from mmattn.core.config import read_config

__all__ = ['parse_with_file']


def parse_with_file(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, fixed: Sequence[str]
) -> argparse.Namespace:
    """Parse a command line whose ``--config`` file sets its defaults.

    Args:
        parser: With an option ``--config``; its defaults are changed.
        argv: The command line; None for that of the process.
        fixed: Options that the file cannot set, beside ``config``.

    Returns:
        The options: those given, else the file's, else the defaults.

    Raises:
        ValueError: The file is absent, cannot be read or sets another option.
    """
    args = parser.parse_args(argv)
    if not args.config:
        return args
    if not os.path.isfile(args.config):
        raise ValueError(f'config {args.config} does not exist')
    try:
        values = read_config(args.config).to_dict()
    except Exception as error:
        raise ValueError(f'config {args.config} cannot be read: {error}') from error
    allowed = sorted(set(vars(args)) - {'config', *fixed})
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise ValueError(f'config sets {", ".join(unknown)}; it can set {", ".join(allowed)}')
    for action in parser._actions:  # a config may give one value where a list is taken
        value = values.get(action.dest)
        if action.nargs == '+' and not isinstance(value, list | tuple | None):
            values[action.dest] = [value]
    parser.set_defaults(**values)
    return parser.parse_args(argv)
