"""Paint what a trained model attends to.

    python tools/visualization/vis_attention.py gates CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py ssia CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py cam CONFIG CHECKPOINT OTHER_CHECKPOINT IMAGE ...

gates: what every gate of a classifier or detector does to its map, channels as bars, positions as
heat over the image. ssia: the spatial signal that each block of SSIA predicts, beside the one it
is asked for. cam: the class activation maps of two checkpoints of a classifier side by side.
"""

import argparse
import sys
from pathlib import Path

from mmattn.analysis import loading, views
from mmattn.analysis.gains import find_gates, watch_gates
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.core.config import read_config


def show_gates(args: argparse.Namespace) -> None:
    model, cfg, _ = loading.load_model(args.config, args.checkpoint)
    gates = find_gates(model, args.gates)
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        found = watch_gates(model, gates, data['inputs'], data['data_samples'], mode='predict')
        views.paint_gates(found, image, data['inputs'].shape[2:], file_of(args, path))
        print(file_of(args, path))


def show_ssia(args: argparse.Namespace) -> None:
    model, cfg, saved = loading.load_model(args.config, args.checkpoint)
    if not hasattr(model, 'spatial_signals'):
        raise ValueError(f"{args.config} must have a model of type 'mmattn.SSIA'")
    if 'ssia' not in saved:
        raise ValueError(f'{args.checkpoint} holds no predictors (mmattn.SSIAHook saves them)')
    try:
        model.ssia.load_state_dict(saved['ssia'])
    except RuntimeError as error:
        raise ValueError(
            f'the predictors in {args.checkpoint} do not fit {args.config}: they were made with '
            'other taps, another sample or another width'
        ) from error
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        maps = views.signals(model, data['inputs'])
        views.paint_signals(maps, image, data['inputs'].shape[2:], file_of(args, path))
        print(file_of(args, path))


def show_cam(args: argparse.Namespace) -> None:
    from mmattn.localization.classifiers import load_classifier
    from mmattn.localization.drawing import explain
    from mmattn.localization.localizer import Localizer, Settings

    settings = Settings(cam=args.method, sweep_step=0)
    pairs = [(args.config, args.checkpoint), (args.other_config or args.config, args.other)]
    shown = {path: [] for path in args.images}
    for config, checkpoint in pairs:
        if Path(config).is_file() and loading.is_detector(read_config(config).model):
            raise ValueError(
                f'cam shows classifiers, {config} is a detector: for what its attention does use '
                "'gates'"
            )
        with Localizer(load_classifier(f'mmpretrain:{config}', checkpoint), settings) as localizer:
            for path, overlays in shown.items():
                overlays += explain(localizer, path, args.label)
    for path, overlays in shown.items():
        names = [f'{Path(config).stem}, {Path(checkpoint).name}' for config, checkpoint in pairs]
        views.paint_cams(overlays, names, file_of(args, path))
        print(file_of(args, path))


def file_of(args: argparse.Namespace, path: str) -> Path:
    return Path(args.out_dir) / f'{Path(path).stem}_{args.command}.png'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, work in dict(gates=show_gates, ssia=show_ssia, cam=show_cam).items():
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument('config')
        command.add_argument('checkpoint')
        if name == 'cam':
            command.add_argument('other', help='the checkpoint to compare with')
            command.add_argument('--other-config', help='its config, where it is another one')
            command.add_argument('--method', default='gradcam', help='score map (%(default)s)')
            command.add_argument('--label', type=int, help='class to show, else the best one')
        if name == 'gates':
            command.add_argument(
                '--gates',
                metavar='PATTERN',
                help='regular expression for the names of the modules (default: every gate)',
            )
        command.add_argument('images', nargs='+')
        command.add_argument(
            '--trust', action='store_true', help='read checkpoints that hold more than weights'
        )
        command.add_argument(
            '--out-dir', default='work_dirs/vis_attention', help='where images go (%(default)s)'
        )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        with guarded_loading(args.trust):
            args.work(args)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('vis_attention', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
