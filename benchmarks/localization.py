"""Speed and memory of localization beside a plain forward pass and beside pytorch-grad-cam.

Images of 224 x 224 through torchvision's ResNet-50 to boxes (gradcam-0.15), of one class and of
the five best. "forward" is the network alone; "mmattn" what it does for this network (pooling and
one linear layer after the maps: no backward pass), "backward" what it does for any other, "fused"
the first with --fuse. "grad-cam" is the package pytorch-grad-cam with the same boxes: five classes
are one forward pass to know them and five calls; where it is not installed, its columns are empty.
The second table is the sweep of 1,000 thresholds for MaxBoxAcc and its V2, per map: each mask that
differs and can still hit, beside every threshold as the authors' code does; and the share of equal
hits.

    python benchmarks/localization.py [--batch 1 8 32] [--classes 1 5] [--json FILE]
"""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
import torch
import torchvision
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from torch import Tensor

from mmattn.deploy import fuse
from mmattn.localization.boxes import boxes_from_maps, get_rule, stretch, upsample
from mmattn.localization.cam import ScoreMaps
from mmattn.localization.sweep import IOU_THRS, iou_matrix, level_ious, threshold_levels

try:
    import pytorch_grad_cam
except ImportError:
    pytorch_grad_cam = None
OURS = ('mmattn', 'backward', 'fused')
HEADER = ['batch', 'classes', 'forward, images/s']
HEADER += [f'{name} / forward' for name in OURS] + [f'{name} / grad-cam' for name in OURS]
MEASURED = ('mmattn', 'backward', 'grad-cam')  # their peak memory
HEADER += [f'memory: {name} / forward' for name in MEASURED]
SWEEP_HEADER = ['maps', 'each threshold, ms', 'each mask, ms', 'times faster', 'equal hits in %']


def best(count: int, logits: Tensor) -> Tensor:
    return logits.topk(count).indices


def our_boxes(maps: ScoreMaps, x: Tensor, count: int, pool: Executor) -> list:
    """As tools/localize.py does it: what runs on the host is spread over threads."""
    out = maps(x, partial(best, count))
    return boxes_from_maps(out.maps.flatten(0, 1), x.shape[-2:], pool=pool)


def their_boxes(cam: object, model: torch.nn.Module, x: Tensor, count: int) -> list:
    """One call a class, components with OpenCV a map."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    classes = [None] * count  # their word for the best one
    if count > 1:
        with torch.inference_mode():
            classes = best(count, model(x)).T.tolist()
    boxes = []
    for of_batch in classes:
        targets = of_batch and [ClassifierOutputTarget(label) for label in of_batch]
        for map_ in cam(input_tensor=x, targets=targets):
            mask = (map_ >= 0.15 * map_.max()).astype(np.uint8)
            stats = cv2.connectedComponentsWithStats(mask, connectivity=8)[2]
            boxes.append(stats[1:][stats[1:, 4].argmax()] if len(stats) > 1 else stats[0])
    return boxes


def network(device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None).eval().to(device)


def make_forms(x: Tensor, count: int) -> dict[str, Callable[[], object]]:
    """Every form of the table, each with a network of its own, so that no hook is shared."""
    device = x.device

    plain = network(device)

    def forward() -> None:
        with torch.inference_mode():
            plain(x)

    forms = {'forward': forward}
    pool = ThreadPoolExecutor(torch.get_num_threads())
    for name in OURS:
        model = network(device)
        model = fuse(model, channels_last=True) if name == 'fused' else model
        maps = ScoreMaps(model, closed_form=name != 'backward')
        maps.__enter__().prepare(x)
        forms[name] = partial(our_boxes, maps, x, count, pool)
    if pytorch_grad_cam:
        model = network(device)
        cam = pytorch_grad_cam.GradCAM(model=model, target_layers=[model.layer4[-1]])
        forms['grad-cam'] = partial(their_boxes, cam, model, x, count)
    return forms


def speed_row(batch: int, count: int, repeats: int) -> list:
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    x = torch.randn(batch, 3, 224, 224, device=device)
    forms = make_forms(x, count)
    times = interleave(forms, repeats)
    peak = {name: peak_bytes(forms[name]) for name in ('forward', *MEASURED) if name in forms}
    row = [batch, count, batch / min(times['forward'])]
    for other in ('forward', 'grad-cam'):
        row += [1 / ratio(times, name, other) if other in times else '-' for name in OURS]
    row += [peak[name] / peak['forward'] if name in peak else '-' for name in MEASURED]
    return row


def every_threshold(
    levels: np.ndarray, boxes_xyxy: list[tuple], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One mask a threshold, as the authors' code does."""
    h, w = levels.shape
    boxes, counts, largest = [], [], []
    for threshold in thresholds:
        level = int(threshold * levels.max())
        mask = cv2.threshold(levels, level, 255, cv2.THRESH_BINARY)[1]
        contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
        areas = [cv2.contourArea(c) for c in contours] or [0]
        largest.append(len(boxes) + areas.index(max(areas)))
        counts.append(len(areas))
        rects = [cv2.boundingRect(c) for c in contours]
        boxes += [(x, y, min(x + bw, w - 1), min(y + bh, h - 1)) for x, y, bw, bh in rects]
        boxes += [] if contours else [(0, 0, 0, 0)]
    ious = iou_matrix(boxes, boxes_xyxy, 'pixel-inclusive').max(1)
    return ious[largest], np.maximum.reduceat(ious, np.cumsum([0, *counts[:-1]]))


def sweep_all(ious: Callable, levels: np.ndarray) -> None:
    for item in levels:
        ious(item)


def sweep_rows(repeats: int, count: int = 6) -> list[list]:
    """Random maps of 7 x 7, the same with few high peaks, and one wide peak with noise."""
    random = torch.rand(count, 7, 7, generator=torch.Generator().manual_seed(0))
    away = (torch.arange(7) - 3).square() / 4
    peak = torch.exp(-away[:, None] - away) + random / 10
    truth = [(40, 50, 150, 190)]
    thresholds, index = threshold_levels(0.001)
    rows = []
    for name, maps in (('random', random), ('peaks', random.pow(4)), ('one peak', peak)):
        levels = stretch(upsample(maps, (224, 224), get_rule('clova-v1'))).to(torch.uint8).numpy()

        forms = {
            'threshold': lambda item: every_threshold(item, truth, thresholds),
            'mask': lambda item: level_ious(item, truth, floor=min(IOU_THRS)),
        }
        hits = {}
        for form, ious in forms.items():
            found = np.array([ious(item) for item in levels])  # (maps, 2, thresholds)
            found = found if form == 'threshold' else found[..., index]
            hits[form] = np.array([found >= thr for thr in IOU_THRS])
        runs = {form: partial(sweep_all, ious, levels) for form, ious in forms.items()}
        times = interleave(runs, repeats)
        equal = 100 * (hits['mask'] == hits['threshold']).mean().item()
        each = [1e3 * min(times[form]) / count for form in ('threshold', 'mask')]
        rows.append([name, *each, ratio(times, 'threshold', 'mask'), equal])
    return rows


def main() -> None:
    parser = make_parser(__doc__, repeats=5)
    parser.add_argument('--batch', type=positive, nargs='+', default=[1, 8, 32])
    parser.add_argument('--classes', type=positive, nargs='+', default=[1, 5])
    args = parser.parse_args()
    print(f'{machine(args)}\n')
    cv2.setNumThreads(args.threads)
    rows = [speed_row(b, k, args.repeats) for b in args.batch for k in args.classes]
    save(args, 'Localization, ResNet-50, 224 x 224', HEADER, rows)
    print()
    title = 'Sweep of 1,000 thresholds, 224 x 224, one thread'
    save(args, title, SWEEP_HEADER, sweep_rows(args.repeats))


if __name__ == '__main__':
    main()
