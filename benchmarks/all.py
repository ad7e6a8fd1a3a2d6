"""Run the benchmarks one after the other and put their tables in one Markdown file.

    python benchmarks/all.py [--full] [--only resnet50 detector] [--out work_dirs/bench]

The quick set takes less than 10 minutes on 2 cores, the full one (benchmarks/README.md) about an
hour. Each table is also written as JSON, with the machine and the command it is from.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from harness import print_table

HERE = Path(__file__).absolute().parent
AW = 'aw "aw, recompute" "aw, naive"'
QUICK = (
    f'resnet50.py --repeats 5 --only {AW} "aw, fused" "plain, fused" se cbam',
    'aw_conv.py --repeats 3 --batch 32 --only "stage 4, "',
    'detector.py --repeats 3 --only aw-fpn',
    'tdam.py --repeats 3',
    'ssia.py --repeats 3',
    'localization.py --repeats 3 --batch 8',
    'localization.py --repeats 3 --batch 1 --classes 1',
    'coco_eval.py --images 500',
    'growth.py --repeats 1 --sizes 224 448 --batches 1 8',
)
FULL = (
    f'resnet50.py --repeats 7 --only {AW} "aw, fused" "plain, fused" se cbam',
    f'resnet50.py --repeats 3 --threads 1 --only {AW} "aw, fused" "plain, fused" se cbam',
    f'resnet50.py --repeats 3 --batch 32 --only {AW}',
    'resnet50.py --repeats 3',
    'aw_conv.py --batch 8 32 --repeats 3 --only R50',
    'detector.py --repeats 3',
    'tdam.py --repeats 5',
    'ssia.py --repeats 7',
    'localization.py --repeats 3 --batch 8 32',
    'localization.py --repeats 3 --batch 8 --threads 1',
    'coco_eval.py --threads 1 --processes 2',
    'growth.py --repeats 1 --plot {out}/growth.png',
    'aw_conv.py --batch 32 --repeats 3 --threads 1 --only "stage 4, "',
    'localization.py --repeats 5 --batch 1 --classes 1',
    'localization_scale.py --threads 1',
    'pieces.py',
    'pieces.py --threads 1',
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--full', action='store_true', help='what benchmarks/README.md shows')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='these scripts')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'), help='folder')
    args = parser.parse_args()
    runs = FULL if args.full else QUICK
    names = sorted({run.split('.')[0] for run in runs})
    if set(args.only or ()) - set(names):
        parser.error(f'--only takes {", ".join(names)}, got {" ".join(args.only)}')
    if not args.only:  # the tables of one whole run
        for old in args.out.glob('[0-9]*_*.json'):
            old.unlink()
    failed = []
    for index, run in enumerate(runs):
        name = run.split('.')[0]
        if args.only and name not in args.only:
            continue
        target = args.out / f'{index:02}_{name}.json'
        target.unlink(missing_ok=True)  # a table is of this run or not there
        script, *options = shlex.split(run.format(out=args.out))
        print(f'\n## python benchmarks/{run}\n', flush=True)
        command = [sys.executable, str(HERE / script), *options, '--json', str(target)]
        if subprocess.run(command).returncode:
            failed.append(run)
    write_tables(args.out)
    print(f'\ntables in {args.out / "tables.md"}')
    if failed:
        print('failed: ' + '; '.join(failed), file=sys.stderr)
    return bool(failed)


def write_tables(folder: Path) -> None:
    """All tables of the folder, with their command and machine, in one file."""
    with (folder / 'tables.md').open('w') as file:
        for path in sorted(folder.glob('*.json')):
            run = json.loads(path.read_text())
            for table in run['tables']:
                print(f'## {table["title"]}\n\n`{run["command"]}`\n', file=file)
                print(f'{run["machine"]}\n', file=file)
                print_table(table['header'], table['rows'], file)
                print(file=file)


if __name__ == '__main__':
    sys.exit(main())
