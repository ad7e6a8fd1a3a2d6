"""Paint what a trained model attends to.

    python tools/visualization/vis_attention.py gates CONFIG CHECKPOINT PICTURE ...
    python tools/visualization/vis_attention.py ssia CONFIG CHECKPOINT PICTURE ...
    python tools/visualization/vis_attention.py cam CONFIG CHECKPOINT OTHER_CHECKPOINT PICTURE ...

gates: what every gate of a classifier or detector does to its map, channels as bars, positions as
heat over the picture. ssia: the spatial signal that each block of SSIA predicts, beside the one it
is asked for. cam: the class activation maps of two checkpoints of a classifier side by side.
"""

import argparse
import re
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from mmattn.core.checkpoint import compare
from mmattn.layers._gate import Gate
from mmattn.localization.drawing import explain, heat_rgba

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

SAME = 1e-3  # a gain that rebuilds the output up to this share of it is all the gate does


def load_model(path, checkpoint):
    """A config's model in eval mode with the weights of a checkpoint, and the config.

    Raises:
        ValueError: The checkpoint cannot be read or is not of this model.
    """
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    forget_pretrained(cfg.model)
    model = MODELS.build(cfg.model).eval()
    try:
        saved = load_checkpoint(model, checkpoint, map_location='cpu')
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f'checkpoint {checkpoint} cannot be read: {reason}') from error
    report = compare(model, saved)
    if not report.fits:
        raise ValueError(f'{checkpoint} does not fit {path}: {report.summary()}')
    return model, cfg, saved


def forget_pretrained(cfg):
    """Drop the checkpoints a config starts from: another one is loaded anyway."""
    if isinstance(cfg, dict):
        if 'checkpoint' in (cfg.get('init_cfg') or {}):
            cfg['init_cfg'] = None
        for value in cfg.values():
            forget_pretrained(value)


def load_picture(cfg, model, path):
    """The picture a network sees, RGB as it stands in front of it, and its input batch.

    Returns:
        tuple: ``(H, W, 3)`` uint8, and what the model's ``forward`` takes.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    steps = [step for step in dataset.pipeline if 'Annotations' not in step.type]
    from_file = steps[0].type.endswith('LoadImageFromFile')
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'{path} is no picture that can be decoded')
    results = dict(img_path=str(path), img_id=0, instances=[])
    if not from_file:  # a data set of arrays, such as CIFAR, which are RGB
        shape = image.shape[:2]
        results.update(img=image[..., ::-1].copy(), img_shape=shape, ori_shape=shape)
    packed = Compose(steps)(results)
    shown = packed['inputs'].permute(1, 2, 0).numpy().astype(np.uint8)
    data = dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']])
    return shown[..., ::-1] if from_file else shown, model.data_preprocessor(data, False)


def find_gates(model, pattern=None):
    """Modules to watch by name: mmattn's gates, or those a regular expression matches.

    Raises:
        ValueError: There is none.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    if pattern is None:
        found = {name: module for name, module in modules.items() if isinstance(module, Gate)}
        if not found:
            raise ValueError("--gates PATTERN is needed: the model has none of mmattn's gates")
        return found
    try:
        found = {name: module for name, module in modules.items() if re.fullmatch(pattern, name)}
    except re.error as error:
        raise ValueError(
            f'--gates must be a regular expression, got {pattern!r}: {error}'
        ) from error
    if not found:
        raise ValueError(f'--gates must match the whole name of a module, got {pattern!r}')
    return found


def gains(x, out):
    """What a gate does to a map: by how much every channel, and every position, is scaled.

    A gain is the sum of ``|out|`` over that of ``|x|``: for a gate that multiplies, its value
    (weighted by ``|x|`` where it also varies along the summed axes); for one that adds, such as
    global context, how much the map grew. It is NaN where ``x`` is zero.

    Shape: two ``(C, H, W)`` -> ``(C,)`` or None, ``(H, W)`` or None. The one that explains nothing
    (positions of a pure channel gate, or the other way round) is None.
    """
    x, out = x.double(), out.double()
    channel = out.abs().sum((1, 2)) / x.abs().sum((1, 2))
    spatial = out.abs().sum(0) / x.abs().sum(0)
    enough = SAME * out.abs().sum()
    if (out - x * channel.nan_to_num()[:, None, None]).abs().sum() <= enough:
        return channel.numpy(), None
    if (out - x * spatial.nan_to_num()).abs().sum() <= enough:
        return None, spatial.numpy()
    return channel.numpy(), spatial.numpy()


def watch_gates(model, gates, data):
    """Run the model once; ``{name of a gate: gains}``, a later call as ``name (2)``.

    Raises:
        ValueError: A named module does not keep the shape of a map.
    """
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            x = inputs[0] if inputs else None
            ok = all(isinstance(t, torch.Tensor) and t.dim() == 4 for t in (x, output))
            if not ok or x.shape != output.shape:
                raise ValueError(f'--gates: {name} does not turn a map into one of its shape')
            calls = sum(key.split(' (')[0] == name for key in seen) + 1
            seen[name if calls == 1 else f'{name} ({calls})'] = gains(x[0], output[0])

        return hook

    # an in-place layer may change the input: keep a copy
    handles = [m.register_forward_pre_hook(lambda _, x: (x[0].clone(), *x[1:])) for m in
               gates.values()]  # fmt: skip
    handles += [m.register_forward_hook(note(name)) for name, m in gates.items()]
    try:
        with torch.no_grad():
            model(data['inputs'], data['data_samples'], mode='predict')
    finally:
        for handle in handles:
            handle.remove()
    return seen


def overlay(axes, picture, heat, padded):
    """Heat over a picture: the map covers the padded input, of which the picture is a part."""
    low, high = np.nanmin(heat), np.nanmax(heat)
    heat = (np.nan_to_num(heat, nan=low) - low) / max(high - low, 1e-12)
    heat = cv2.resize(heat, padded[::-1], interpolation=cv2.INTER_LINEAR)
    axes.imshow(picture)
    axes.imshow(heat_rgba(heat[: picture.shape[0], : picture.shape[1]]))
    axes.set_axis_off()
    return low, high


def panels(rows, columns, picture):
    """A grid of axes with cells of the picture's shape."""
    ratio = np.clip(picture.shape[1] / picture.shape[0], 0.5, 2)
    size = (columns * (2.2 * ratio + 0.2), rows * 2.5)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout='constrained')


def paint_gates(found, picture, padded, file):
    """A row a gate: the map over the picture, the channels as bars."""
    figure, grid = panels(len(found), 2, picture)
    for (name, (channel, spatial)), (left, right) in zip(found.items(), grid):
        if spatial is None:
            left.imshow(picture)
            left.set_axis_off()
            left.set_title(f'{name}\nall positions alike', fontsize=7)
        else:
            low, high = overlay(left, picture, spatial, padded)
            left.set_title(f'{name}\n{low:.2f} (blue) to {high:.2f} (red)', fontsize=7)
        if channel is None:
            right.set_axis_off()
            right.set_title('all channels alike', fontsize=7)
        else:
            right.bar(np.arange(len(channel)), channel, width=1.0, color='#2f6fb3')
            right.set_title(f'gain of {len(channel)} channels', fontsize=7)
            right.tick_params(labelsize=6)
            right.set_ylim(bottom=0)
    save(figure, file)


def paint_ssia(maps, picture, padded, file):
    """A row a block: the picture, the predicted and the true signal over it."""
    figure, grid = panels(len(maps), 3, picture)
    for (name, predicted, signal), row in zip(maps, grid):
        row[0].imshow(picture)
        row[0].set_axis_off()
        row[0].set_title(name, fontsize=7)
        for axes, heat, title in zip(row[1:], (predicted, signal), ('predicted', 'signal')):
            overlay(axes, picture, heat, padded)
            axes.set_title(f'{title}, {heat.shape[0]} x {heat.shape[1]}', fontsize=7)
    save(figure, file)


def paint_cams(overlays, names, file):
    """The picture, and the map of each checkpoint over it."""
    picture = np.asarray(overlays[0].picture)
    height, width = picture.shape[:2]
    figure, (row,) = panels(1, 1 + len(overlays), picture)
    for axes in row:
        axes.imshow(picture, extent=(0, width, height, 0))
        axes.set_axis_off()
    for axes, found, name in zip(row[1:], overlays, names):
        x0, y0, x1, y1 = found.heat_xyxy
        axes.imshow(heat_rgba(found.heat), extent=(x0, x1, y1, y0))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_title(f'{name}\nclass {found.label}: {found.score:.2f}', fontsize=7)
    save(figure, file)


def save(figure, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)
    plt.close(figure)
    print(file)


def show_gates(args):
    model, cfg, _ = load_model(args.config, args.checkpoint)
    gates = find_gates(model, args.gates)
    for path in args.pictures:
        picture, data = load_picture(cfg, model, path)
        found = watch_gates(model, gates, data)
        paint_gates(found, picture, data['inputs'].shape[2:], file_of(args, path))


def show_ssia(args):
    model, cfg, saved = load_model(args.config, args.checkpoint)
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
    for path in args.pictures:
        picture, data = load_picture(cfg, model, path)
        maps = [
            (f'{low} -> {high}', predicted[0, 0].numpy(), signal[0, 0].numpy())
            for (low, high), predicted, signal in model.spatial_signals(data['inputs'])
        ]
        if not maps:
            raise ValueError(f'{args.config} has lambda_s=0: there is no spatial prediction')
        paint_ssia(maps, picture, data['inputs'].shape[2:], file_of(args, path))


def show_cam(args):
    from mmattn.localization.classifiers import load_classifier
    from mmattn.localization.localizer import Localizer, Settings

    settings = Settings(cam=args.method, sweep_step=0)
    pairs = [(args.config, args.checkpoint), (args.other_config or args.config, args.other)]
    shown = {path: [] for path in args.pictures}
    for config, checkpoint in pairs:
        with Localizer(load_classifier(f'mmpretrain:{config}', checkpoint), settings) as localizer:
            for path, overlays in shown.items():
                overlays += explain(localizer, path, args.label)
    for path, overlays in shown.items():
        names = [f'{Path(config).stem}, {Path(checkpoint).name}' for config, checkpoint in pairs]
        paint_cams(overlays, names, file_of(args, path))


def file_of(args, path):
    return Path(args.out_dir) / f'{Path(path).stem}_{args.command}.png'


def parse_args(argv=None):
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
        command.add_argument('pictures', nargs='+')
        command.add_argument(
            '--out-dir', default='work_dirs/vis_attention', help='where pictures go (%(default)s)'
        )
    return parser.parse_args(argv)


def main(argv=None):
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        args.work(args)
    except (ValueError, OSError, ImportError) as error:
        print(f'vis_attention: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
