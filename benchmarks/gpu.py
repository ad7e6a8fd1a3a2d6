"""What only a GPU shows, in one command of under 20 minutes and one table.

- precision: every method under autocast (fp16, bf16) beside float32, outputs and gradients;
- aw: the forms of the AW-convolution engine beside cuDNN's plain convolution, at the shapes of
  ResNet-50 and FPN, also by torch.compile and with channels-last maps; which one wins and which
  one the engine picks;
- networks: steps a second and peak memory of Faster R-CNN and TD-ResNet, float32 and autocast;
- localization: images a second.

    python benchmarks/gpu.py [--only aw networks] [--minutes 20] [--json FILE]
    python benchmarks/gpu.py --tiny     # the same code on small shapes, for a CPU
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import detector
import torch
import torch.nn.functional as F
import torchvision
from aw_conv import SHAPES
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from resnet50 import train_step
from torch import Tensor, nn

from mmattn.convs import aw_engine
from mmattn.core.config import read_config
from mmattn.insertion.methods import METHODS
from mmattn.localization.boxes import boxes_from_maps
from mmattn.localization.cam import ScoreMaps
from mmattn.testing import randomise

HEADER = ['workload', 'case', 'measured']
HALVES = {'fp16': torch.float16, 'bf16': torch.bfloat16}
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
Rows = Iterator[list[str]]


def autocast(half: str | None) -> contextlib.AbstractContextManager:
    """Return the precision of a run: float32 for None."""
    return torch.autocast(DEVICE, HALVES[half]) if half else contextlib.nullcontext()


# precision


def methods(args: argparse.Namespace) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Every gate and convolution, as it is in a network, with a map for it."""
    channels, side = (32, 8) if args.tiny else (256, 28)
    for method in METHODS:
        options = dict(method.options, type=f'mmattn.{method.name}', in_channels=channels)
        if method.kind == 'conv':
            options.update(out_channels=channels, kernel_size=3, padding=1)
        elif method.kind != 'gate' or method.name == 'Sequence':  # a Sequence is of the others
            continue
        if method.name == 'LinearAutoencoderAttention':
            options['width'] = side
        torch.manual_seed(0)
        yield (
            method.name,
            randomise(MODELS.build(options)).to(DEVICE).eval(),
            torch.randn(4, channels, side, side, device=DEVICE),
        )


def run_once(layer: nn.Module, x: Tensor, half: str | None) -> list[Tensor]:
    """Return output and gradient of the input."""
    x = x.clone().requires_grad_()
    with autocast(half):
        out = layer(x)
    out = (out if isinstance(out, Tensor) else out[-1]).float()
    return [out.detach(), torch.autograd.grad(out.square().mean(), x)[0]]


def precision(args: argparse.Namespace) -> Rows:
    """How far a method's values under autocast are from those in float32."""
    for name, layer, x in methods(args):
        exact, cells = run_once(layer, x, None), []
        for half in HALVES:
            try:
                found = run_once(layer, x, half)
            except RuntimeError as error:
                cells.append(f'{half} {str(error).splitlines()[0]}')
                continue
            gaps = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact)]
            cells.append(f'{half} {gaps[0]:.1e} (gradient {gaps[1]:.1e})')
        yield ['largest difference to float32', name, ', '.join(cells)]


# the engine


def forms_of(
    x: Tensor, weight: Tensor, attn: Tensor, where: aw_engine.Where
) -> dict[str, Callable[[], Tensor]]:
    """Return every exact form that this shape allows, plain first."""
    forms = {'plain': partial(F.conv2d, x, weight, None, *where)}
    if weight.shape[2:] == (1, 1):
        names = ['output_gate']
    else:
        taps = 'gemm_taps' if where.stride == (1, 1) else 'gather_taps'
        names = ['per_sample', 'rescaled', taps, 'per_tap']
    for name in names:
        forms[name] = partial(getattr(aw_engine, name), x, weight, attn, where)
    graph = aw_engine.output_gate if names == ['output_gate'] else aw_engine.per_tap
    backend = 'inductor' if DEVICE == 'cuda' else 'eager'
    forms['compiled'] = partial(
        torch.compile(graph, backend=backend, dynamic=False), x, weight, attn, where
    )
    return forms


def picked(x: Tensor, weight: Tensor, attn: Tensor, where: aw_engine.Where) -> str:
    """Return the form that the engine takes by itself."""
    seen = []
    names = ('output_gate', 'per_sample', 'rescaled', 'gemm_taps', 'gather_taps', 'per_tap')
    kept = {name: getattr(aw_engine, name) for name in names}
    try:
        for name, form in kept.items():
            note = lambda *a, name=name, form=form: (seen.append(name), form(*a))[1]  # noqa: E731
            setattr(aw_engine, name, note)
        aw_engine.aw_conv2d(x, weight, attn, where)
    finally:
        for name, form in kept.items():
            setattr(aw_engine, name, form)
    return seen[0]


def backward(form: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Run a form and its gradients; the plain one has none of the attention."""
    out = form()
    torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)


def aw(args: argparse.Namespace) -> Rows:
    """Time the engine's forms, without the attention's branch, as ratios to the convolution."""
    torch.backends.cudnn.benchmark = True
    for name, (c1, c2, kernel, stride, height, width) in SHAPES.items():
        batches = (2,) if args.tiny else (8, 32)
        if args.tiny:
            c1, c2, height, width = 8, 8, min(height, 7), min(width, 7)
        for batch in batches:
            pad = kernel // 2
            where = aw_engine.Where((stride, stride), (pad, pad), (1, 1))
            torch.manual_seed(0)
            for layout in ('', ', channels last'):
                order = torch.channels_last if layout else torch.contiguous_format
                x = torch.randn(batch, c1, height, width, device=DEVICE)
                x = x.to(memory_format=order).requires_grad_()
                weight = torch.randn(c2, c1, kernel, kernel, device=DEVICE, requires_grad=True)
                attn = torch.rand(batch, c2, 1, kernel, kernel, device=DEVICE, requires_grad=True)
                forms = forms_of(x, weight, attn, where)
                steps = {n: partial(backward, f, [x, weight, attn]) for n, f in forms.items()}
                with torch.no_grad():
                    forward = interleave(forms, args.repeats)
                step = interleave(steps, args.repeats)
                choice = picked(x, weight, attn, where)
                for what, times in (('forward', forward), ('step', step)):
                    ratios = {n: ratio(times, n, 'plain') for n in forms if n != 'plain'}
                    best = min(ratios, key=ratios.get)
                    text = ', '.join(f'{n} {value:.2f}' for n, value in ratios.items())
                    case = f'{name}, {batch} images{layout}'
                    yield [f'AW {what} / plain', case, f'{text}; best {best}, picked {choice}']


# networks


def frcnn(neck: str, args: argparse.Namespace) -> tuple[nn.Module, Callable[[nn.Module], None]]:
    """Faster R-CNN, and its step on drawn images with boxes."""
    if args.tiny:
        config = detector.CONFIGS.parent / 'demo' / f'faster-rcnn_r18_{neck}_350i_digits.py'
        net, size, batch = MODELS.build(read_config(config).model), (64, 96), 2
    else:
        net, size, batch = detector.build(neck), (800, 1344), 2
    data = demo_mm_inputs(batch, [(3, *size)] * batch, num_items=[8] * batch)
    return net.to(DEVICE), partial(detector.train_step, data=data)


def top_down(steps: int, args: argparse.Namespace) -> tuple[nn.Module, Callable]:
    """TD-ResNet (one step is the plain ResNet), and its step."""
    options = dict(type='mmattn.TDResNet', frozen_stages=-1, norm_eval=False)
    options |= dict(depth=18, base_channels=8) if args.tiny else dict(depth=50)
    if steps > 1:
        options['preset'] = 'r18-top-t2m1' if args.tiny else 'r50-joint-t2m1'
        del options['depth']
    else:
        options['steps'] = 1
    batch, side = (2, 32) if args.tiny else (64, 224)
    x = torch.randn(batch, 3, side, side, device=DEVICE)
    return MODELS.build(options).to(DEVICE), partial(train_step, x=x)


NETWORKS = {
    'Faster R-CNN, FPN': partial(frcnn, 'fpn'),
    'Faster R-CNN, AW-FPN': partial(frcnn, 'aw-fpn'),
    'ResNet': partial(top_down, 1),
    'TD-ResNet (t2, m1)': partial(top_down, 2),
}


def networks(args: argparse.Namespace) -> Rows:
    """Count steps a second and peak memory; forward and backward, without the optimizer."""
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        net, step = build(args)
        for half in (None, 'fp16' if DEVICE == 'cuda' else 'bf16'):

            def form(net: nn.Module = net, step: Callable = step, half: str | None = half) -> None:
                with autocast(half):
                    step(net)

            try:
                times = interleave({name: form}, args.repeats)[name]
                mib = peak_bytes(form) / 2**20
                measured = (
                    f'{1 / sorted(times)[len(times) // 2]:.2f} steps a second, {mib:.0f} MiB'
                )
            except RuntimeError as error:  # on a CPU mmcv's NMS has no bfloat16
                measured = f'cannot be trained so: {str(error).splitlines()[0]}'
            yield ['training', f'{name}, {half or "float32"}', measured]


# localization


def localization(args: argparse.Namespace) -> Rows:
    """Images a second from the batch to boxes, in closed form and with a backward pass."""
    torch.manual_seed(0)
    build = torchvision.models.resnet18 if args.tiny else torchvision.models.resnet50
    batch, side = (2, 64) if args.tiny else (64, 224)
    x = torch.randn(batch, 3, side, side, device=DEVICE)
    plain = build(weights=None).eval().to(DEVICE)

    def forward() -> None:
        with torch.inference_mode():
            plain(x)

    def boxes(maps: ScoreMaps) -> list:
        out = maps(x, lambda logits: logits.topk(5).indices)
        return boxes_from_maps(out.maps.flatten(0, 1), (side, side))

    forms = {'forward alone': forward}
    for name, closed in (('boxes, closed form', True), ('boxes, backward pass', False)):
        maps = ScoreMaps(build(weights=None).to(DEVICE), closed_form=closed)
        maps.__enter__().prepare(x)
        forms[name] = partial(boxes, maps)
    times = interleave(forms, args.repeats)
    for name in forms:
        rate = batch / sorted(times[name])[len(times[name]) // 2]
        yield ['localization, 5 classes', name, f'{rate:.1f} images a second']


PARTS = dict(precision=precision, aw=aw, networks=networks, localization=localization)


def main() -> None:
    parser = make_parser(__doc__, repeats=10)
    parser.add_argument('--only', nargs='+', choices=PARTS, default=list(PARTS), metavar='PART')
    parser.add_argument('--minutes', type=positive, default=20, help='no new row after these')
    parser.add_argument('--tiny', action='store_true', help='small shapes, to try the command')
    args = parser.parse_args()
    args.repeats = min(args.repeats, 2) if args.tiny else args.repeats
    register_all_modules()
    print(machine(args), flush=True)
    start, rows, late = time.monotonic(), [], []
    for name in args.only:
        for row in PARTS[name](args):
            rows.append(row)
            if time.monotonic() - start > 60 * args.minutes:
                late.append(name)
                break
    for name in late:
        rows.append([name, 'left out', f'more of it: {args.minutes} minutes were over'])
    save(args, f'On {machine(args)}', HEADER, rows)


if __name__ == '__main__':
    main()
