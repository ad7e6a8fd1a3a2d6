"""The page's script finds the boxes that Python finds, at every threshold of its slider."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mmattn.localization
from mmattn.localization.boxes import RULES, boxes_from_maps
from mmattn.localization.localizer import best_iou
from mmattn.localization.slider import pack_map, selection_counts, slider_thresholds
from mmattn.localization.structures import Geometry

SCRIPT = Path(mmattn.localization.__file__).parent / 'page/boxes.js'
ASK = """
const {cases, steps} = JSON.parse(require('fs').readFileSync(0, 'utf8'));
(async () => {
  const answers = [];
  for (const {map, shot, truth, rule} of cases) {
    const [height, width] = shot.input_size;
    const counts = await unpackMap(map, width);
    answers.push([...Array(steps).keys()].map((step) => {
      const boxes = boxesAt(counts, width, height, step, rule);
      return [boxes, bestIou(boxes, truth, shot, rule)];
    }));
  }
  console.log(JSON.stringify(answers));
})();
"""


def ask(cases, steps):
    """Let node answer: for each case ``[[boxes, iou] for each threshold]``."""
    if shutil.which('node') is None:
        pytest.skip('node is not installed')
    done = subprocess.run(
        ['node', '-e', SCRIPT.read_text() + ASK],
        input=json.dumps(dict(cases=cases, steps=steps)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drawn_maps():
    """Maps that meet every branch: smooth, noisy, tied, with holes, constant, zero, not finite."""
    rng = torch.Generator().manual_seed(0)
    ring = torch.zeros(14, 14)
    ring[2:11, 1:12] = 1
    ring[5:8, 4:9] = -1
    ring[6, 6] = 0.4
    tied = torch.zeros(14, 14)
    tied[1, 1] = tied[1, 11] = tied[11, 1] = tied[11, 11] = 1
    nan = torch.ones(14, 14)
    nan[2, 3] = torch.nan
    board = ((torch.arange(14)[:, None] + torch.arange(14)) % 2).float()
    smooth = [
        torch.nn.functional.interpolate(torch.randn(1, 1, k, k, generator=rng), (14, 14))[0, 0]
        for k in (2, 3, 5, 7)
    ]
    noise = [torch.rand(14, 14, generator=rng), torch.randn(14, 14, generator=rng)]
    flat = [torch.zeros(14, 14), torch.ones(14, 14), -torch.ones(14, 14)]
    return torch.stack([*smooth, *noise, ring, tied, nan, board, *flat])


@pytest.mark.parametrize('name', RULES)
def test_the_script_finds_the_boxes_of_python(name):
    size, maps = (61, 47), drawn_maps()
    rule = replace(RULES[name], threshold=0.123)
    thresholds = slider_thresholds(rule)
    assert 0.123 in thresholds
    assert len(thresholds) == 101
    shots = [
        Geometry.resized((200, 301), size),
        Geometry((0.31, 0.3), (5, 3), size, (150, 203)),
    ]
    truth = [[20.5, 30.25, 120, 140], [3, 4, 60, 50.5]]
    cases = [
        dict(map=pack_map(counts), shot=vars(shots[number % 2]), truth=truth, rule=vars(rule))
        for number, counts in enumerate(selection_counts(maps, size, rule, thresholds))
    ]
    answers = ask(cases, len(thresholds))
    for step, threshold in enumerate(thresholds):
        at = boxes_from_maps(maps, size, replace(rule, threshold=threshold))
        for number, right in enumerate(at):
            boxes, iou = answers[number][step]
            where = f'map {number}, threshold {threshold}'
            assert sorted(boxes) == sorted(right.tolist()), where
            assert iou == best_iou(right, truth, shots[number % 2], rule), where


def test_a_map_of_counts_holds_every_mask():
    rule = RULES['gradcam-0.15']
    counts = selection_counts(
        torch.tensor([[[0.0, 0.5], [0.75, 1.0]]]), (2, 2), rule, [0, 0.5, 0.8]
    )
    np.testing.assert_array_equal(counts, [[[1, 2], [2, 3]]])
