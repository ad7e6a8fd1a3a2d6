"""What SSIA adds to a training step, and to inference, as ratios to the plain model in one run.

Both models of a workload are built from one config, hold the same weights and see the same
images. A training step is forward, backward and the optimizer's step.

    python benchmarks/ssia.py [--workloads r50 faster-rcnn] [--batch 8] [--json FILE]
"""

import statistics
from functools import partial
from pathlib import Path

import torch
from harness import interleave, machine, make_parser, positive, save
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmattn.auxiliary import plain_config

CONFIGS = Path(__file__).absolute().parents[1] / 'configs' / 'ssia'
WORKLOADS = {  # config, image, images of a step (None: --batch)
    'r50': ('resnet50-ssia_1xb64-100e_in1k', (224, 224), None),
    'faster-rcnn': ('faster-rcnn_r50-ssia_fpn_1x_coco', (384, 512), 2),
}
HEADER = ['workload', 'step', 'quartiles', 'inference', 'quartiles', 'training-only parameters']


def build(name: str) -> dict[str, nn.Module]:
    """Return the plain model and the one with SSIA, equal weights."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model, plain = MODELS.build(cfg.model), MODELS.build(plain_config(cfg.model))
    plain.load_state_dict(model.state_dict())
    return dict(plain=plain, SSIA=model)


def make_batch(kind: str, model: nn.Module, count: int, size: tuple[int, int]) -> dict:
    """Random images with a label, or eight boxes, each, ready for the model."""
    torch.manual_seed(0)
    if kind == 'faster-rcnn':
        from mmdet.testing import demo_mm_inputs

        data = demo_mm_inputs(count, [(3, *size)] * count, num_items=[8] * count)
    else:
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(n) for n in range(count)]
        data = dict(inputs=torch.randint(0, 256, (count, 3, *size)), data_samples=samples)
    return model.data_preprocessor(data, True)


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict) -> None:
    model.train()
    torch.manual_seed(0)  # the detectors' samplers draw alike
    optimizer.zero_grad(set_to_none=True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    optimizer.step()


def infer(model: nn.Module, batch: dict) -> None:
    model.eval()
    with torch.inference_mode():
        model.extract_feat(batch['inputs'])


def measure(kind: str, batch: int, repeats: int) -> list:
    """Return a row of the table."""
    name, size, count = WORKLOADS[kind]
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    models = {name: model.to(device) for name, model in build(name).items()}
    data = make_batch(kind, models['plain'], count or batch, size)
    row = [f'{kind}, {count or batch} x {size[0]} x {size[1]}']
    steps, forwards = {}, {}
    for name, model in models.items():
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        steps[name] = partial(train_step, model, optimizer, data)
        forwards[name] = partial(infer, model, data)
    for forms in (steps, forwards):
        times = interleave(forms, repeats)
        ratios = [ours / plain for ours, plain in zip(times['SSIA'], times['plain'])]
        low, _, high = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
        row += [statistics.median(ratios), f'{low:.2f} to {high:.2f}']
    plain, ours = (sum(p.numel() for p in model.parameters()) for model in models.values())
    return [*row, ours - plain]


def main() -> None:
    parser = make_parser(__doc__, repeats=9)
    parser.add_argument('--workloads', nargs='+', choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument('--batch', type=positive, default=8, help='of r50 (%(default)s)')
    args = parser.parse_args()
    print(machine(args))
    rows = [measure(kind, args.batch, args.repeats) for kind in args.workloads]
    save(args, 'SSIA beside the plain model', HEADER, rows)


if __name__ == '__main__':
    main()
