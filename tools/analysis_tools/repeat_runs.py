"""Train and test several configs several times, and print one table.

    python tools/analysis_tools/repeat_runs.py PLAIN.py WITH_METHOD.py --seeds 0 1

Every run has its own folder, WORK_DIR/CONFIG/seed_N. Run again after an interruption, finished
runs are kept and the others go on from their last checkpoint. The table is printed and written to
WORK_DIR/table.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmattn.cli.run_log import child_environment, write_json

TOOLS = Path(__file__).absolute().parents[1]
SPLITS = ('train', 'val', 'test')


class Failed(Exception):
    """A run ended with an error."""


def settings(config: Path, seed: int, data_root: str | None, given: list[str]) -> list[str]:
    """The ``--cfg-options`` of one run."""
    from mmengine.config import Config

    options = [f'randomness.seed={seed}']
    if data_root:
        cfg = Config.fromfile(config)
        options += [
            f'{split}_dataloader.dataset.data_root={data_root}'
            for split in SPLITS
            if cfg.get(f'{split}_dataloader')
        ]
    return ['--cfg-options', *options, *given]


def call(command: list, log: Path, threads: int) -> None:
    """Run one step; its words go to the log."""
    environment = child_environment(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    with open(log, 'a') as file:
        code = subprocess.call(
            [sys.executable, *map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    if code:
        last = log.read_text(errors='replace').strip().splitlines()[-1:]
        raise Failed(f'{log}: {"".join(last)}')


def run_once(config: Path, seed: int, args: argparse.Namespace) -> dict:
    """Train and test one config with one seed, or read what an earlier call left."""
    folder = Path(args.work_dir) / config.stem / f'seed_{seed}'
    result, log = folder / 'result.json', folder / 'run.log'
    if result.is_file():
        print(f'{folder}: finished earlier', flush=True)
        return json.loads(result.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    options = settings(config, seed, args.data_root, args.cfg_options)
    resume = ['--resume'] if (folder / 'last_checkpoint').is_file() else []
    print(f'{folder}: {"going on" if resume else "training"}, see {log}', flush=True)
    call([TOOLS / 'train.py', config, '--work-dir', folder, *resume, *options], log, args.threads)
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip()).name
    command = [TOOLS / 'test.py', config, folder / checkpoint, '--work-dir', folder / 'test']
    call(command + options, log, args.threads)
    metrics = sorted((folder / 'test').glob('*/*.json'), key=os.path.getmtime)[-1]
    values = json.loads(metrics.read_text())
    print(f'{folder}: done', flush=True)
    return write_json(result, values)


def table(results: dict[str, dict[int, dict]], metrics: list[str]) -> str:
    """Write mean, spread and single values of every config as a Markdown table.

    Args:
        results: Config name to seed to the figures of that run.
        metrics: The figures to show; names as in the log, with or without ``coco/``.
    """
    lines = ['| config | ' + ' | '.join(metrics) + ' |', '|---' * (len(metrics) + 1) + '|']
    for name, runs in results.items():
        cells = []
        for metric in metrics:
            values = [find(run, metric) for _, run in sorted(runs.items())]
            single = ', '.join(f'{value:.3f}' for value in values)
            spread = f' ± {statistics.stdev(values):.3f}' if len(values) > 1 else ''
            cells.append(f'{statistics.mean(values):.3f}{spread} ({single})')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    seeds = sorted({seed for runs in results.values() for seed in runs})
    lines += ['', f'Mean ± standard deviation (single runs); seeds {", ".join(map(str, seeds))}.']
    return '\n'.join(lines)


def find(run: dict, metric: str) -> float:
    """Read one figure of a run."""
    for key in (metric, f'coco/{metric}', f'pascal_voc/{metric}', f'accuracy/{metric}'):
        if key in run:
            return run[key]
    names = ', '.join(k for k, v in run.items() if isinstance(v, float))
    raise ValueError(f'--metrics: no figure {metric!r}; there are {names}')


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1])
    parser.add_argument('--work-dir', default='work_dirs/repeat_runs', help='(%(default)s)')
    parser.add_argument('--data-root', help='data_root of all data sets')
    parser.add_argument('--parallel', type=int, default=1, help='runs at a time (%(default)s)')
    parser.add_argument('--threads', type=int, help='per run (cores / --parallel)')
    parser.add_argument('--metrics', nargs='+', default=['bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_75'])
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    for config in args.configs:
        if not config.is_file():
            parser.error(f'{config} does not exist')
    if args.parallel < 1:
        parser.error(f'--parallel must be >= 1, got {args.parallel}')
    args.threads = args.threads or max((os.cpu_count() or 1) // args.parallel, 1)
    return args


def main(argv=None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    jobs = [(config, seed) for seed in args.seeds for config in args.configs]
    results: dict[str, dict[int, dict]] = {config.stem: {} for config in args.configs}
    try:
        with ThreadPoolExecutor(args.parallel) as pool:
            done = pool.map(lambda job: run_once(*job, args), jobs)
            for (config, seed), figures in zip(jobs, done):
                results[config.stem][seed] = figures
        text = table(results, args.metrics)
    except (Failed, OSError, ValueError) as error:
        print(f'repeat_runs: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('repeat_runs: interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    Path(args.work_dir, 'table.md').write_text(text + '\n')
    print(f'\n{text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
