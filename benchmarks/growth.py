"""How time and memory of every attention grow with the image and the batch.

Each module works on 256 channels at a sixteenth of the image's size, as on C4 or P4 of a
detector. What is measured is a forward pass without gradients, for a pixel of the image and an
image of the batch: a flat line is a cost in proportion, a rising one grows faster.

    python benchmarks/growth.py [--sizes 224 ...] [--batches 1 ...] [--plot FILE] [--json FILE]
"""

import statistics
from functools import partial
from pathlib import Path

import matplotlib
import torch
from harness import interleave, machine, make_parser, peak_bytes, positive, save
from torch import nn

from mmattn.convs import AAConv2d, AWConv2d
from mmattn.layers.searchlight import Searchlight
from mmattn.registry import MODELS

matplotlib.use('Agg')

CHANNELS, STRIDE = 256, 16
GATES = {
    'SE': dict(type='mmattn.SE'),
    'CBAM': dict(type='mmattn.CBAM'),
    'BAM': dict(type='mmattn.BAM'),
    'ECA': dict(type='mmattn.ECA'),
    'SimAM': dict(type='mmattn.SimAM'),
    'FcaNet': dict(type='mmattn.FcaNet'),
    'GlobalContext': dict(type='mmattn.GlobalContext'),
    'NonLocal': dict(type='mmattn.NonLocal'),
    'NonLocal, sub-sampled': dict(type='mmattn.NonLocal', sub_sample=True),
    'DualAttention': dict(type='mmattn.DualAttention'),
    'SpatialWeights': dict(type='mmattn.SpatialWeights'),
    'ConvAutoencoder': dict(type='mmattn.ConvAutoencoderAttention'),
    'LinearAutoencoder': dict(type='mmattn.LinearAutoencoderAttention'),
    'PyramidAttention': dict(type='mmattn.PyramidAttention'),
}
HEADER = ['module', 'batch', 'image', 'ns a pixel', 'bytes a pixel', 'ms', 'MiB']


class Twice(nn.Module):
    """A searchlight whose top is its bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.searchlight = Searchlight(CHANNELS, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.searchlight(x, x)


def modules() -> dict[str, nn.Module]:
    """Every family's module, in eval mode."""
    nets = {name: MODELS.build(dict(in_channels=CHANNELS, **cfg)) for name, cfg in GATES.items()}
    nets['plain 3x3'] = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
    nets['AWConv2d 3x3'] = AWConv2d(CHANNELS, CHANNELS, 3, padding=1)
    nets['AAConv2d 3x3'] = AAConv2d(CHANNELS, CHANNELS, 3, padding=1)
    nets['Searchlight'] = Twice()
    return {name: net.eval() for name, net in nets.items()}


def plot(rows: list[list], sizes: list[int], batches: list[int], path: Path) -> None:
    """Time and memory for a pixel, over the image's side and over the batch."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout='constrained')
    for column, (label, values) in enumerate(
        {'side of one image': sizes, 'images, 224 x 224': batches}.items()
    ):
        for row, what in enumerate(('ns a pixel', 'bytes a pixel')):
            axis = axes[row, column]
            for i, name in enumerate(dict.fromkeys(line[0] for line in rows)):
                points = {
                    (side if column == 0 else batch): line[3 + row]
                    for line in rows
                    for batch, side in [line[1:3]]
                    if line[0] == name and (batch == 1 if column == 0 else side == 224)
                }
                y = [points[value] for value in values]
                # ten colours, then again
                axis.plot(values, y, '-o' if i < 10 else '--s', markersize=3, label=name)
            axis.set(xlabel=label, ylabel=what, xscale='log', yscale='log')
            axis.set_xticks(values, values)
            axis.minorticks_off()
    axes[0, 1].legend(loc='upper left', bbox_to_anchor=(1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


@torch.no_grad()
def main() -> None:
    parser = make_parser(__doc__, repeats=3)
    parser.add_argument('--sizes', type=positive, nargs='+', default=[224, 448, 672, 896, 1344])
    parser.add_argument('--batches', type=positive, nargs='+', default=[1, 2, 4, 8, 16, 32])
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw the curves there')
    args = parser.parse_args()
    print(machine(args))
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    nets = {name: net.to(device) for name, net in modules().items()}
    cases = [(1, side) for side in args.sizes] + [(n, 224) for n in args.batches if n > 1]
    rows = []
    for batch, side in cases:
        x = torch.randn(batch, CHANNELS, side // STRIDE, side // STRIDE, device=device)
        forms = {name: partial(net, x) for name, net in nets.items()}
        times = interleave(forms, args.repeats)
        for name, form in forms.items():
            seconds, peak = statistics.median(times[name]), peak_bytes(form)
            pixels = batch * side**2
            figures = [seconds * 1e9 / pixels, peak / pixels, seconds * 1e3, peak / 2**20]
            rows.append([name, batch, side, *figures])
    rows.sort(key=lambda row: list(nets).index(row[0]))
    save(args, 'Cost growth', HEADER, rows)
    if args.plot:
        plot(rows, args.sizes, [1, *(n for n in args.batches if n > 1)], args.plot)


if __name__ == '__main__':
    main()
