"""What the engine and CBAM are made of, piece by piece: the figures behind a missed goal.

    python benchmarks/pieces.py [--threads 1] [--only PIECE ...] [--json FILE]

products: float32 matrix products of stage 4, by torch (MKL) and by oneDNN, beside the convolution;
images: a batch's convolution beside one for each image; taps: the forward pass of a layer of
stage 4; cbam: a training step of one gate, with plain operators, as it is, and compiled; linear:
one of LinearAutoencoderAttention, some thousand rows at a time and all at once, and of the matrix
products of its MLP alone; se: a step of ResNet-50, and what autograd keeps for it, with and
without mmdet's own ``with_cp``. 8 images unless said; medians in ms of interleaved rounds.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from unittest import mock

import resnet50
import torch
import torch.nn.functional as F
from harness import interleave, machine, make_parser, save
from mmdet.utils import register_all_modules
from torch import Tensor

from mmattn.convs import aw_engine
from mmattn.core.identity import blend
from mmattn.layers import CBAM, LinearAutoencoderAttention, autoencoder

HEADER = ['piece', 'case', 'variant', 'ms', 'billion multiply-adds a second']
WHERE = aw_engine.Where((1, 1), (1, 1), (1, 1))
Rows = Iterator[list]


def rows_of(
    piece: str, case: str, variants: dict[str, Callable], rounds: int, macs: float = 0
) -> Rows:
    """Time variants against each other; ``macs`` are those of one call."""
    for name, times in interleave(variants, rounds).items():
        seconds = median(times)
        yield [piece, case, name, seconds * 1e3, macs / seconds / 1e9 if macs else '-']


def products(args: argparse.Namespace) -> Rows:
    """Multiply an image's positions with all taps' weights."""
    for num in (8, 32):
        x, weight = torch.randn(num, 512, 7, 7), torch.randn(512, 512, 3, 3)
        rows = x.permute(0, 2, 3, 1).reshape(-1, 512).contiguous()
        kernels = weight.permute(2, 3, 0, 1).reshape(-1, 512).contiguous()
        variants = {
            '3x3 convolution': partial(F.conv2d, x, weight, None, 1, 1),
            'torch': lambda a=rows, b=kernels: a @ b.t(),
            'the engine': partial(aw_engine._product, rows, kernels),
        }
        yield from rows_of(
            'products', f'{num} images', variants, args.repeats, x.numel() * 512 * 9
        )


def images(args: argparse.Namespace) -> Rows:
    """Convolve a batch at once, and image by image, forward and backward."""
    for width, side in ((64, 56), (128, 28), (256, 14)):
        x, weight = torch.randn(8, width, side, side), torch.randn(width, width, 3, 3)
        grad = torch.randn_like(x)
        variants = {
            'batch': partial(ahead, weight, x),
            'each image': partial(each, ahead, weight, x),
            'batch, backward': partial(back, weight, grad, x),
            'each image, backward': partial(each, back, weight, grad, x),
        }
        yield from rows_of('images', f'{width} @ {side}x{side}', variants, args.repeats)


def ahead(weight: Tensor, x: Tensor) -> Tensor:
    return F.conv2d(x, weight, None, 1, 1)


def back(weight: Tensor, grad: Tensor, x: Tensor) -> tuple:
    where = None, (1, 1), (1, 1), (1, 1), False, (0, 0), 1
    return torch.ops.aten.convolution_backward(grad, x, weight, *where, (True, True, False))


def each(call: Callable, weight: Tensor, *maps: Tensor) -> None:
    for parts in zip(*(m.split(1) for m in maps), strict=True):
        call(weight, *parts)


def taps(args: argparse.Namespace) -> Rows:
    """Take the forward pass of a layer of stage 4 apart."""
    for num in (8, 32):
        x, weight = torch.randn(num, 512, 7, 7), torch.randn(512, 512, 3, 3)
        scale = torch.rand(num, 512, 1, 3, 3)
        made, kernels = aw_engine._all_taps(x, weight), aw_engine._pack(weight, x.dtype)
        rows = aw_engine._to_nhwc(x).flatten(0, 2)
        compiled = torch.compile(add_taps, dynamic=False)
        variants = {
            'plain convolution': partial(F.conv2d, x, weight, None, 1, 1),
            'whole': partial(aw_engine.gemm_taps, x, weight, scale - 1, WHERE),
            'product': partial(aw_engine._product, rows, kernels.flatten(0, 1)),
            'packing the weights': partial(aw_engine._pack, weight, x.dtype),
            'adding the taps': partial(add_taps, made, scale, x, weight),
            'adding, compiled': partial(compiled, made, scale, x, weight),
        }
        yield from rows_of('taps', f'{num} images', variants, args.repeats)


def add_taps(made: Tensor, scale: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Scale, shift and sum the taps, as the engine's forward pass does."""
    out = aw_engine._accumulator(x, weight, WHERE)
    shifts = aw_engine._shifts(x, out, weight, WHERE.padding)
    for t, (source, target) in enumerate(shifts):
        out[target].addcmul_(made[source][..., t, :], aw_engine._factor(scale, t, out))
    return out


def cbam(args: argparse.Namespace) -> Rows:
    """Train one gate at ``init='identity'`` in three ways."""
    for shape in ((8, 256, 56, 56), (8, 1024, 14, 14)):
        gate, grad = CBAM(shape[1], init='identity'), torch.randn(shape)
        x = torch.randn(shape, requires_grad=True)

        def plain(x: Tensor, gate: CBAM = gate) -> Tensor:
            return blend(x, gate.attend(x), gate.gamma)

        def step(form: Callable, x: Tensor = x, grad: Tensor = grad) -> None:
            x.grad = None
            form(x).backward(grad)

        forms = {'plain operators': plain, 'mmattn': gate, 'compiled': torch.compile(plain)}
        variants = {name: partial(step, form) for name, form in forms.items()}
        with torch.enable_grad():
            yield from rows_of('cbam', ' x '.join(map(str, shape)), variants, args.repeats)


def linear(args: argparse.Namespace) -> Rows:
    """Train the gate of a map, and only multiply the matrices of its MLP."""
    for images, width, side in (
        (8, 64, 56),
        (8, 128, 28),
        (8, 256, 14),
        (8, 512, 7),
        (128, 64, 32),
    ):
        gate = LinearAutoencoderAttention(width, init='identity')
        x = torch.randn(images, width, side, side)
        conv = torch.nn.Conv2d(width, width, 3, padding=1, bias=False)
        layers = [layer for layer in gate.mlp if isinstance(layer, torch.nn.Linear)]
        rows = [torch.randn(images * width * side, layer.in_features) for layer in layers]
        grads = [torch.randn(len(x), layer.out_features) for x, layer in zip(rows, layers)]
        variants = {
            'the 3x3 convolution before it': partial(train, conv, x.requires_grad_()),
            'gate': partial(train, gate, x),
            'gate, all rows at once': partial(train_at_once, gate, x),
            'its matrix products': partial(multiply, rows, layers, grads),
        }
        with torch.enable_grad():
            case = f'{width} @ {side}x{side}, {images} images'
            yield from rows_of('linear', case, variants, args.repeats)


def train(net: torch.nn.Module, x: Tensor) -> None:
    x.grad = None
    net(x).sum().backward()


def train_at_once(net: torch.nn.Module, x: Tensor) -> None:
    with mock.patch.object(autoencoder, 'CHUNK', x.numel()):
        train(net, x)


@torch.no_grad()
def multiply(rows: list[Tensor], layers: list[torch.nn.Linear], grads: list[Tensor]) -> None:
    for x, layer, grad in zip(rows, layers, grads, strict=True):
        _ = x @ layer.weight.t(), grad @ layer.weight, grad.t() @ x


def se(args: argparse.Namespace) -> Rows:
    """Train ResNet-50, with and without SE, keeping the maps inside a block or not."""
    register_all_modules()
    x = torch.randn(8, 3, 224, 224, requires_grad=True)
    nets = {name: resnet50.build(name) for name in ('plain', 'se')}
    for name in ('plain', 'se'):
        nets[f'{name}, with_cp'] = net = resnet50.build(name)
        for module in net.modules():
            if hasattr(module, 'with_cp'):
                module.with_cp = True
    with torch.enable_grad():
        kept = {name: kept_mib(net, x) for name, net in nets.items()}
        steps = {name: partial(resnet50.train_step, net, x) for name, net in nets.items()}
        for row in rows_of('se', 'ResNet-50', steps, min(args.repeats, 3)):
            yield [row[0], f'{row[1]}, keeps {kept[row[2]]:.0f} MiB', *row[2:]]


def kept_mib(net: torch.nn.Module, x: Tensor) -> float:
    """Memory of the tensors that autograd keeps after a forward pass, parameters left out."""
    kept, own = {}, {p.untyped_storage().data_ptr() for p in net.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net.train()(x)
    mib = sum(size for pointer, size in kept.items() if pointer not in own) / 2**20
    del out
    return mib


PIECES = dict(products=products, images=images, taps=taps, cbam=cbam, linear=linear, se=se)


def main() -> None:
    parser = make_parser(__doc__, repeats=9)
    parser.add_argument('--only', nargs='+', choices=PIECES, default=list(PIECES), metavar='PIECE')
    args = parser.parse_args()
    title = f'Pieces, {machine(args)}'
    with torch.no_grad():
        save(args, title, HEADER, [row for name in args.only for row in PIECES[name](args)])


if __name__ == '__main__':
    main()
