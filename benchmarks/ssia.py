"""What SSIA adds to a training step, and to inference, as ratios to the plain model in one run.

Both models of a workload are built from one config, hold the same weights and see the same
pictures; their steps alternate. A training step is forward, backward and the optimizer's step.

    python benchmarks/ssia.py [--workloads r50 faster-rcnn] [--batch 8] [--repeats 9] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).absolute().parents[1]
WORKLOADS = {  # config, picture, pictures of a step (None: --batch)
    'r50': ('resnet50-ssia_1xb64-100e_in1k', (224, 224), None),
    'faster-rcnn': ('faster-rcnn_r50-ssia_fpn_1x_coco', (384, 512), 2),
}


def build(name):
    """The model with SSIA and the plain one, equal weights."""
    cfg = Config.fromfile(ROOT / 'configs' / 'ssia' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    cfg.model.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model, plain = MODELS.build(cfg.model), MODELS.build(cfg.model.model)
    plain.load_state_dict(model.state_dict())
    return dict(plain=plain, SSIA=model)


def make_batch(kind, count, size):
    """Random pictures with a label, or eight boxes, each."""
    torch.manual_seed(0)
    inputs = torch.randn(count, 3, *size)
    if kind == 'r50':
        from mmpretrain.structures import DataSample

        return inputs, [DataSample().set_gt_label(n) for n in range(count)]
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for _ in range(count):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size,
                scale_factor=(1, 1),
            )
        )  # fmt: skip
        corners = torch.rand(8, 2) * torch.tensor([size[1] / 2, size[0] / 2])
        boxes = torch.cat((corners, corners + 20 + torch.rand(8, 2) * 100), 1)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(80, (8,)))
        samples.append(sample)
    return inputs, samples


def train_step(model, optimizer, inputs, samples):
    model.train()
    torch.manual_seed(0)  # the detectors' samplers draw alike
    optimizer.zero_grad(set_to_none=True)
    loss, _ = model.parse_losses(model(inputs, samples, mode='loss'))
    loss.backward()
    optimizer.step()


def infer(model, optimizer, inputs, samples):
    model.eval()
    with torch.inference_mode():
        model.extract_feat(inputs)


def timed(function, *args):
    start = time.perf_counter()
    function(*args)
    if args[2].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(kind, args):
    """Median over the rounds of each round's ratio, and the plain model's seconds."""
    name, size, count = WORKLOADS[kind]
    inputs, samples = make_batch(kind, count or args.batch, size)
    device = torch.device(args.device)
    inputs, samples = inputs.to(device), [sample.to(device) for sample in samples]
    models = {name: model.to(device) for name, model in build(name).items()}
    optimizers = {
        name: torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        for name, model in models.items()
    }
    row = dict(workload=kind, batch=len(inputs), size=size)
    for phase, step in dict(training=train_step, inference=infer).items():
        times = {name: [] for name in models}
        for repeat in range(args.repeats + 1):
            order = list(models) if repeat % 2 else list(models)[::-1]  # neither always first
            for name in order:
                seconds = timed(step, models[name], optimizers[name], inputs, samples)
                if repeat:  # the first round warms up
                    times[name].append(seconds)
        ratios = [ours / plain for ours, plain in zip(times['SSIA'], times['plain'])]
        row[phase] = statistics.median(ratios)
        row[f'{phase}_quartiles'] = statistics.quantiles(ratios, n=4)[::2]
        row[f'{phase}_plain_seconds'] = statistics.median(times['plain'])
    plain, ours = (sum(p.numel() for p in m.parameters()) for m in models.values())
    row['training_only_parameters'] = ours - plain
    return row


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    print(f'torch {torch.__version__}, {args.device}, {args.threads} threads, '
          f'{args.repeats} rounds; median (quartiles) of the ratio to plain\n')  # fmt: skip
    print('| workload | training step | plain | inference | plain | training-only parameters |')
    print('|---|---|---|---|---|---|')
    rows = []
    for kind in args.workloads:
        row = measure(kind, args)
        rows.append(row)
        cells = [f'{kind}, {row["batch"]} x {row["size"][0]} x {row["size"][1]}']
        for phase in ('training', 'inference'):
            low, high = row[f'{phase}_quartiles']
            cells.append(f'{row[phase]:.3f}x ({low:.3f} to {high:.3f})')
            cells.append(f'{row[f"{phase}_plain_seconds"]:.2f} s')
        print(f'| {" | ".join(cells)} | {row["training_only_parameters"]:,} |', flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2) + '\n')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--workloads', nargs='+', choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument('--batch', type=int, default=8, help='of r50 (%(default)s)')
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--json', type=Path, help='write the rows to this file as well')
    return parser.parse_args()


if __name__ == '__main__':
    main()
