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

from mmengine.config import Config, DictAction

from mmattn.cli import command_line
from mmattn.cli.failures import end_run
from mmattn.data.checks import check_data


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


def change(cfg: Config, args: argparse.Namespace) -> None:
    """Apply the command line to a config."""
    from mmattn.study.plan import set_data_root
    from mmattn.study.settings import shorten_schedule

    cfg.merge_from_dict(args.cfg_options)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    shorten_schedule(cfg, args.epochs, args.iters)
    if args.checkpoint:
        cfg.load_from = args.checkpoint


def make_study(args: argparse.Namespace) -> object:
    """Everything that can go wrong before hours are spent."""
    from mmattn.insertion.insert import read_config
    from mmattn.study import plan
    from mmattn.study.study import Study

    base = read_config(args.config)
    change(base, args)
    notes = plan.check_test(base, args.best)
    notes += check_data(base, ('train', 'val', 'test') if args.best else ('train', 'test'))
    if len(args.seeds) == 1:
        notes.append('one seed: intervals hold the chance of the test images alone')
    if args.checkpoint:
        said = plan.check_checkpoint(base, args.checkpoint)
        notes.append(f'every run starts from {Path(args.checkpoint).name}: {said}')
    entries, refused = plan.make_entries(base, args.methods, lambda cfg: change(cfg, args))
    for name, reason in refused.items():
        print(f'cannot stand in this network: {name}: {reason}', file=sys.stderr)
    if refused and 'all' not in args.methods:
        raise ValueError(
            f'--methods: {", ".join(refused)} cannot stand in this network (reasons above); leave '
            'them out'
        )
    for note in notes:
        print(f'note: {note}', file=sys.stderr)
    return Study(
        title=Path(args.config.rpartition('::')[2]).stem,
        entries=entries,
        seeds=args.seeds,
        work_dir=args.work_dir,
        out=args.out,
        refused=refused,
        best=args.best,
        keep=args.keep_checkpoints,
        notes=notes,
    )


def study(args: argparse.Namespace, command: list[str]) -> None:
    """Carry out a study in a work dir that no other one uses."""
    from mmattn.study.study import lock

    with lock(args.work_dir):
        carry_out(args, command)


def carry_out(args: argparse.Namespace, command: list[str]) -> None:
    """Check, measure the costs, train, compare."""
    from mmattn.study.costs import measure_costs
    from mmattn.study.launch import make_launcher, run_all
    from mmattn.study.plan import PLAIN, check_disk
    from mmattn.study.progress import Progress
    from mmattn.study.report import write_report
    from mmattn.study.scores import need_hotcoco
    from mmattn.study.summary import summarize

    slurm = command_line.parse_options(args.slurm or [])
    folder = args.work_dir / 'submitit'
    launcher = make_launcher(folder, args.parallel, args.threads, args.processes, slurm)
    planned = make_study(args)
    planned.prepare()
    if planned.truth():
        need_hotcoco()
    costs = measure_costs(
        planned.entries,
        args.out / 'costs.json',
        args.cost_rounds,
        lambda label: print(f'costs: {label}', flush=True),
    )
    broken = {label: cost['problem'] for label, cost in costs.items() if 'problem' in cost}
    if PLAIN in broken:
        raise ValueError(f'config: the plain network does not run here: {broken[PLAIN]}')
    for label, problem in broken.items():
        print(f'does not run here, left out: {label}: {problem}', file=sys.stderr)
    if broken and 'all' not in args.methods:
        raise ValueError(f'--methods: {", ".join(broken)} cannot run here (reasons above)')
    planned.refused.update(broken)
    planned.entries = [one for one in planned.entries if one.label not in broken]
    models = [costs[run.label]['params'] for run in planned.runs() if not run.finished]
    if models:
        check_disk(args.work_dir, models, args.parallel, args.keep_checkpoints)

    with Progress(planned) as progress:
        waiting = [] if args.tables_only else list(planned.runs())

        def show(running: object):
            ended = sum(run.finished for run in planned.runs())
            if ended != show.ended and running:  # what is known is there to read
                show.ended = ended
                write_report(summarize(planned, costs, command), args.out)
            progress(running)

        show.ended = 0
        run_all(waiting, launcher, show)
    found = summarize(planned, costs, command)
    write_report(found, args.out)
    print((args.out / 'study.md').read_text(encoding='utf-8'))
    print(f'{args.out / "report.html"} has it with plots. Next to try:')
    print(found.get('next', found['command']))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    command = ['python', 'tools/study.py', *(sys.argv[1:] if argv is None else argv)]
    try:
        study(args, command)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('study', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
