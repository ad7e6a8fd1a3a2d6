"""Speed of localization beside a plain forward pass and beside pytorch-grad-cam, in one run.

    python benchmarks/localization.py
    python benchmarks/localization.py --batches 1 8 32 --repeats 7 --threads 2 --out result.json

Pictures per second of ResNet-50 at 224 x 224 with boxes (gradcam-0.15), for the true class and
for the five best. The forms take turns (A, B, C, A, B, C, ...); the table shows medians. Rows:

* forward: the network alone, no map
* closed form: what mmattn does for this network (pooling and one linear layer, no backward)
* gradient: what mmattn does for any other network (one backward pass to the last block)
* grad-cam: the package pytorch-grad-cam with the same boxes; five classes are one forward pass
  to know them and five calls

The second table: MaxBoxAcc at 1,000 thresholds, each different mask once against each threshold.
"""

import argparse
import json
import platform
import statistics
import sys
import time

import cv2
import numpy as np
import torch
import torchvision

from mmattn.localization.boxes import boxes_from_maps, get_rule, stretch, upsample
from mmattn.localization.cam import ScoreMaps
from mmattn.localization.sweep import level_ious, level_ious_every_threshold, threshold_levels


def grad_cam_boxes(cam, target, x, classes):
    """Boxes by pytorch-grad-cam: one call a class, components with OpenCV a map."""
    boxes = []
    for k in range(classes.shape[1]):
        targets = [target(int(c)) for c in classes[:, k]]
        for gray in cam(input_tensor=x, targets=targets):
            mask = (gray >= 0.15 * gray.max()).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            x0, y0, w, h, _ = stats[1:][stats[1:, 4].argmax()] if len(stats) > 1 else stats[0]
            boxes.append((x0, y0, x0 + w, y0 + h))
    return boxes


def sync(device):
    """Waits for a GPU to finish."""
    if device.type == 'cuda':
        torch.cuda.synchronize()


def measure(forms, repeats, device):
    """Median seconds of each form; the forms take turns."""
    times = {name: [] for name in forms}
    for turn in range(repeats + 1):
        for name, form in forms.items():
            sync(device)
            start = time.perf_counter()
            form()
            sync(device)
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def speed(args, device):
    """Rows of the first table."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval().to(device)
    peer = None
    try:
        from pytorch_grad_cam import GradCAM

        peer_model = torchvision.models.resnet50(weights=None).eval().to(device)
        peer_model.load_state_dict(model.state_dict())
        peer = GradCAM(model=peer_model, target_layers=[peer_model.layer4[-1]])
    except ImportError:
        print('pytorch-grad-cam is not installed (pip install --no-deps grad-cam): left out')
    rows = []
    with ScoreMaps(model) as closed, ScoreMaps(model) as gradient:
        for batch in args.batches:
            x = torch.randn(batch, 3, 224, 224, device=device)
            closed.prepare(x)
            gradient.prepare(x)
            gradient.analytic = False
            for k in args.classes:
                rows.append(one_row(model, closed, gradient, peer, x, k, args, device))
                print(json.dumps(rows[-1]), flush=True)
    return rows


def one_row(model, closed, gradient, peer, x, k, args, device):
    """Pictures per second of every form for one batch size and number of classes."""

    def best(logits):
        return logits.topk(k).indices

    def ours(maps):
        out = maps(x, best)
        return boxes_from_maps(out.maps.flatten(0, 1), (224, 224))

    def forward():
        with torch.no_grad():
            model(x)

    forms = dict(forward=forward)
    forms['closed form'] = lambda: ours(closed)
    forms['gradient'] = lambda: ours(gradient)
    if peer is not None and not (x.shape[0] * k > 40 and not args.full):
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        with torch.no_grad():
            known = best(model(x))

        def theirs():
            if k > 1:
                forward()  # to know the five best classes
            grad_cam_boxes(peer, ClassifierOutputTarget, x, known)

        forms['grad-cam'] = theirs
    seconds = measure(forms, args.repeats, device)
    row = {'batch': x.shape[0], 'classes': k}
    row.update({name: round(x.shape[0] / s, 2) for name, s in seconds.items()})
    for name in ('closed form', 'gradient'):
        row[f'{name} / forward'] = round(seconds['forward'] / seconds[name], 3)
        if 'grad-cam' in seconds:
            row[f'{name} / grad-cam'] = round(seconds['grad-cam'] / seconds[name], 2)
    return row


def sweep_row(repeats, count=6):
    """The second table: milliseconds a map, and whether both forms gave the same."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(count, 7, 7, generator=generator).pow(3)
    levels = stretch(upsample(maps, (224, 224), get_rule('clova-v1'))).to(torch.uint8).numpy()
    truth = [(40, 50, 150, 190)]
    thresholds, index = threshold_levels(0.001)
    same = True
    for item in levels:
        fast = level_ious(item, truth)
        slow = level_ious_every_threshold(item, truth, thresholds)
        same &= all(np.array_equal(f[index], s) for f, s in zip(fast, slow))
    forms = {
        'each mask once': lambda: [level_ious(item, truth) for item in levels],
        'each threshold': lambda: [
            level_ious_every_threshold(item, truth, thresholds) for item in levels
        ],
    }
    seconds = measure(forms, repeats, torch.device('cpu'))
    row = {f'{name}, ms': round(1000 * s / count, 2) for name, s in seconds.items()}
    row['times faster'] = round(seconds['each threshold'] / seconds['each mask once'], 2)
    row['same result'] = bool(same)
    return row


def main(argv=None):
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 8, 32])
    parser.add_argument('--classes', type=int, nargs='+', default=[1, 5])
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, help='CPU threads of torch')
    parser.add_argument('--full', action='store_true', help='grad-cam for 32 pictures x 5 too')
    parser.add_argument('--out', help='write the figures as JSON')
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    machine = torch.cuda.get_device_name() if device.type == 'cuda' else platform.processor()
    print(f'torch {torch.__version__}, {device} {machine}, {torch.get_num_threads()} threads')
    result = dict(speed=speed(args, device), sweep=sweep_row(args.repeats))
    print(json.dumps(result['sweep']))
    if args.out:
        with open(args.out, 'w') as f:
            json.dump(result, f, indent=1)
    return 0


if __name__ == '__main__':
    sys.exit(main())
