"""What the benchmarks share: tables, the command line, and the library's timing."""

import argparse
import json
import platform
import shlex
import sys
from pathlib import Path
from typing import TextIO

import torch

from mmattn.analysis.timing import interleave, peak_bytes, ratio

__all__ = [
    'interleave',
    'machine',
    'make_parser',
    'peak_bytes',
    'positive',
    'print_table',
    'ratio',
    'save',
]


def positive(text: str) -> int:
    """Return an option's whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number from 1 on, got {text!r}')
    return int(text)


def make_parser(doc: str, repeats: int) -> argparse.ArgumentParser:
    """Return a parser with every benchmark's options, described by the module's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=positive, default=repeats, help='counted rounds')
    parser.add_argument('--threads', type=positive, default=2, help='CPU threads')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the tables there')
    parser.set_defaults(tables=[])
    return parser


def machine(args: argparse.Namespace) -> str:
    """Return a line on what the figures were measured with; sets the number of threads."""
    torch.set_num_threads(args.threads)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f'torch {torch.__version__}, {device}, {args.threads} threads, {args.repeats} rounds'


def print_table(header: list[str], rows: list[list], file: TextIO | None = None) -> None:
    """Write a Markdown table, floats with two decimals, to the standard output or a file."""
    print('| ' + ' | '.join(header) + ' |', file=file)
    print('|' + '---|' * len(header), file=file)
    for row in rows:
        cells = (f'{cell:.2f}' if isinstance(cell, float) else str(cell) for cell in row)
        print('| ' + ' | '.join(cells) + ' |', file=file)


def save(args: argparse.Namespace, title: str, header: list[str], rows: list[list]) -> None:
    """Print a table and, where ``--json`` says, write it with the run's earlier ones."""
    print_table(header, rows)
    args.tables.append(dict(title=title, header=header, rows=rows))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        command = shlex.join(['python', 'benchmarks/' + Path(sys.argv[0]).name, *_options()])
        content = dict(command=command, machine=machine(args), tables=args.tables)
        args.json.write_text(json.dumps(content, indent=2) + '\n')


def _options() -> list[str]:
    """Return the command line without where the rows go."""
    options = sys.argv[1:]
    index = options.index('--json') if '--json' in options else len(options)
    return options[:index] + options[index + 2 :]


def _processor() -> str:
    simd = torch.backends.cpu.get_cpu_capability()
    return f'{platform.machine()} CPU with {simd}'
