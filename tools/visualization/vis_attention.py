"""Paint what a trained model attends to.

    python tools/visualization/vis_attention.py gates CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py ssia CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py cam CONFIG CHECKPOINT OTHER_CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py steps CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py searchlight CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py weights CONFIG CHECKPOINT IMAGE ...
    python tools/visualization/vis_attention.py positions CONFIG CHECKPOINT IMAGE ...

gates: what every gate of a classifier or detector does to its map, channels as bars, positions as
heat over the image. ssia: the spatial signal that each block of SSIA predicts, beside the one it
is asked for. cam: the class activation maps of two or more classifiers side by side. steps: those
of every step of a top-down network (TDAM), beside a plain one. searchlight: which channels and
positions its searchlights select. weights: the map A of every AW-convolution. positions: the
weights of learn-to-pay attention.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from mmattn.analysis import loading, method_views, views
from mmattn.analysis.attention_maps import (
    at_each_step,
    position_maps,
    searchlights,
    weight_maps,
)
from mmattn.analysis.gains import find_gates, watch_gates
from mmattn.analysis.gammas import gammas_of
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import find_state, guarded_loading, load_checkpoint
from mmattn.core.config import read_config
from mmattn.core.names import distinct_names
from mmattn.localization.classifiers import Classifier, load_classifier
from mmattn.localization.drawing import explain
from mmattn.localization.localizer import Localizer, Settings


def show_gates(args: argparse.Namespace) -> None:
    model, cfg, _ = loading.load_model(args.config, args.checkpoint)
    gates, gammas = find_gates(model, args.gates), gammas_of(model)
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        found = watch_gates(model, gates, data['inputs'], data['data_samples'], mode='predict')
        views.paint_gates(found, image, data['inputs'].shape[2:], file_of(args, path), gammas)
        print(file_of(args, path))


def show_ssia(args: argparse.Namespace) -> None:
    model, cfg = loading.load_predictors(args.config, args.checkpoint)
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        maps = views.signals(model, data['inputs'])
        views.paint_signals(maps, image, data['inputs'].shape[2:], file_of(args, path))
        print(file_of(args, path))


def show_cam(args: argparse.Namespace) -> None:
    networks = [(args.config, args.checkpoint), (args.other_config or args.config, args.other)]
    paint_maps(args, [load_cam(*network) for network in networks + args.more])


def show_steps(args: argparse.Namespace) -> None:
    _, whole = load_cam(args.config, args.checkpoint)
    steps = at_each_step(whole)
    if not steps:
        raise ValueError(f'{args.config} must have top-down blocks (mmattn.TDResNet and others)')
    plain = [load_cam(*args.plain)] if args.plain else []
    paint_maps(args, [*plain, *((f'step {k}', step) for k, step in enumerate(steps, 1))])


def load_cam(config: str, checkpoint: str) -> tuple[str, Classifier]:
    named = Path(config).is_file() or '::' in config
    if named and loading.is_detector(read_config(config).model):
        raise ValueError(
            f'cam shows classifiers, {config} is a detector: for what its attention does use '
            "'gates'"
        )
    name = f'{Path(config).stem}, {Path(checkpoint).name}'
    return name, load_classifier(f'mmpretrain:{config}', checkpoint)


def paint_maps(args: argparse.Namespace, networks: list[tuple[str, Classifier]]) -> None:
    names = args.names or [name for name, _ in networks]
    if len(names) != len(networks):
        raise ValueError(f'names must be one a network ({len(networks)}), got {len(names)}')
    settings = Settings(cam=args.method, sweep_step=0)
    shown = {path: [] for path in args.images}
    for _, classifier in networks:
        with Localizer(classifier, settings) as localizer:
            for path, overlays in shown.items():
                overlays += explain(localizer, path, args.label)
    for path, overlays in shown.items():
        views.paint_cams(overlays, names, file_of(args, path))
        print(file_of(args, path))


def show_searchlight(args: argparse.Namespace) -> None:
    seen = look(args, searchlights, method_views.paint_searchlights)
    if len(seen) > 1:
        file = Path(args.out_dir) / 'selectivity.png'
        method_views.paint_selectivity(seen, [Path(path).stem for path in args.images], file)
        print(file)


def show_weights(args: argparse.Namespace) -> None:
    gammas = gammas_of(find_state(load_checkpoint(args.checkpoint)))
    look(args, weight_maps, lambda maps, *rest: method_views.paint_weights(maps, rest[-1], gammas))


def show_positions(args: argparse.Namespace) -> None:
    look(args, position_maps, method_views.paint_positions)


def look(args: argparse.Namespace, read: Callable, paint: Callable) -> list:
    """Read a network's maps for every image, and paint them."""
    model, cfg, _ = loading.load_model(args.config, args.checkpoint)
    found = []
    for path in args.images:
        image, data = loading.load_image(cfg, model, path)
        found.append(read(model, data['inputs'], data['data_samples'], mode='predict'))
        paint(found[-1], image, data['inputs'].shape[2:], file_of(args, path))
        print(file_of(args, path))
    return found


def file_of(args: argparse.Namespace, path: str) -> Path:
    name = distinct_names(args.images)[args.images.index(path)]
    return Path(args.out_dir) / f'{name}_{args.command}.png'


COMMANDS = dict(
    gates=show_gates,
    ssia=show_ssia,
    cam=show_cam,
    steps=show_steps,
    searchlight=show_searchlight,
    weights=show_weights,
    positions=show_positions,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, work in COMMANDS.items():
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument('config')
        command.add_argument('checkpoint')
        if name == 'cam':
            command.add_argument('other', help='the checkpoint to compare with')
            command.add_argument('--other-config', help='its config, where it is another one')
            command.add_argument(
                '--more', nargs=2, action='append', default=[], metavar=('CONFIG', 'CHECKPOINT'),
                help='one more network; may be given several times',
            )  # fmt: skip
        if name == 'steps':
            command.add_argument(
                '--plain',
                nargs=2,
                metavar=('CONFIG', 'CHECKPOINT'),
                help='network beside the steps',
            )
        if name in ('cam', 'steps'):
            command.add_argument('--method', default='gradcam', help='score map (%(default)s)')
            command.add_argument('--label', type=int, help='class to show, else the best one')
            command.add_argument('--names', nargs='+', help='titles of the networks or steps')
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
    args = parser.parse_args(argv)
    args.images = list(dict.fromkeys(args.images))
    return args


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
