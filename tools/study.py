"""Does attention help here? Train a config plain and with each method, and compare them.

    python tools/study.py CONFIG --methods CBAM SE AWFPN --seeds 0 1 2 --work-dir work_dirs/mine
    python tools/study.py CONFIG --methods all --epochs 6 --work-dir work_dirs/short

CONFIG is any mmdet detector or mmpretrain classifier (a file, or mmdet::NAME). A method is a name
of `python tools/add_attention.py --list`, with options as CBAM:reduction=8, two gates one after
the other as ECA+SpatialGate, or the file of a config of your own. Every method is put where its
paper has it and trained with the same seeds, data order and schedule as the plain config. Stopped
and started again, finished runs stay and the others resume.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmattn.cli import command_line
from mmattn.cli.failures import end_run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='the plain config: a file, or mmdet::NAME, mmpretrain::NAME')
    add('--methods', nargs='+', required=True, metavar='METHOD', help='what to add; all: each one')
    add('--seeds', nargs='+', type=int, default=[0, 1, 2], help='of every method (0 1 2)')
    add('--work-dir', type=Path, required=True, help='logs and checkpoints of the runs')
    add('--out', type=Path, help='results (WORK_DIR); finished runs found here are kept')
    add('--checkpoint', help='start every run from these weights of the plain network')
    add('--best', metavar='KEY', help='test the best checkpoint by this validation figure')
    add('--epochs', type=int, help='train so long instead; the learning rate is scaled to it')
    add('--iters', type=int, help='the same for a config that trains by iterations')
    add('--data-root', help='data_root of all data sets')
    add('--parallel', type=int, default=1, metavar='N', help='runs at a time (1)')
    add('--threads', type=int, help='CPU threads of a run')
    add('--processes', type=int, default=1, help='GPUs of a run, through torchrun (1)')
    add(
        '--slurm',
        nargs='+',
        metavar='KEY=VALUE',
        help='submit a job array instead: partition=NAME, time=MINUTES, gpus_per_node=1, ...',
    )
    add(
        '--cost-rounds',
        type=int,
        default=5,
        metavar='N',
        help='rounds in which latency and training step are timed (5; 0: not timed)',
    )
    add('--tables-only', action='store_true', help='train nothing, write what is finished')
    add('--keep-checkpoints', action='store_true', help="keep every run's tested checkpoint")
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the plain config and of configs of your own',
    )
    args = parser.parse_args(argv)
    for name in ('parallel', 'processes'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be >= 1, got {getattr(args, name)}')
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        parser.error(f'--seeds must be different integers >= 0, got {args.seeds}')
    args.out = args.out or args.work_dir
    return args


def study(args: argparse.Namespace, command: list[str]) -> None:
    """Carry out a study in a work dir that no other one uses."""
    from mmattn.study.conduct import Changes, conduct, drop_broken, make_study
    from mmattn.study.costs import measure_costs
    from mmattn.study.launch import make_launcher
    from mmattn.study.scores import need_hotcoco
    from mmattn.study.study import lock

    with lock(args.work_dir):
        slurm = command_line.parse_options(args.slurm or [])
        folder = args.work_dir / 'submitit'
        launcher = make_launcher(folder, args.parallel, args.threads, args.processes, slurm)
        changes = Changes(
            args.cfg_options, args.data_root, args.epochs, args.iters, args.checkpoint
        )
        where = (args.work_dir, args.out)
        keep = args.keep_checkpoints
        planned = make_study(
            args.config, args.methods, args.seeds, *where, changes, args.best, keep
        )
        leave_out(planned.refused, 'cannot stand in this network', args.methods)
        for note in planned.notes:
            print(f'note: {note}', file=sys.stderr)
        planned.prepare()
        if planned.truth():
            need_hotcoco()
        costs = measure_costs(
            planned.entries,
            args.out / 'costs.json',
            args.cost_rounds,
            lambda label: print(f'costs: {label}', flush=True),
        )
        leave_out(drop_broken(planned, costs), 'cannot run here', args.methods)
        train = not args.tables_only
        found = conduct(planned, costs, command, launcher, args.parallel, train)
    print((args.out / 'study.md').read_text(encoding='utf-8'))
    print(f'{args.out / "report.html"} has it with plots. Next to try:')
    print(found.get('next', found['command']))


def leave_out(reasons: dict[str, str], problem: str, methods: list[str]) -> None:
    """Print which methods a study does without; a method that was named may not be among them."""
    for name, reason in reasons.items():
        print(f'{problem}: {name}: {reason}', file=sys.stderr)
    if reasons and 'all' not in methods:
        raise ValueError(
            f'--methods: {", ".join(reasons)} {problem} (reasons above); leave them out'
        )


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    command = ['python', 'tools/study.py', *(w for w in words if w != '--tables-only')]
    try:
        study(args, command)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('study', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
