"""Every benchmark runs, on small sizes; what it measures is not judged here."""

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).absolute().parents[1]
sys.path.insert(0, str(ROOT / 'benchmarks'))

SMALL = {
    'aw_conv': ['--batch', '2', '--only', '512 @ 7x7'],
    'resnet50': ['--batch', '2', '--size', '32', '--only', 'aw', 'aw, fused', 'aw, recompute'],
    'detector': ['--batch', '2', '--size', '64', '96', '--only', 'aw-fpn'],
    'coco_eval': [
        *('--images', '12', '--boxes', '9', '--processes', '2'),
        *('--metric', 'segm', '--classwise'),
    ],
    'gpu': ['--tiny'],
    'tdam': ['--batch', '2', '--size', '32'],
    'ssia': ['--workloads', 'r50', '--batch', '2'],
    'localization': ['--batch', '1', '--classes', '1'],
    'pieces': ['--only', 'products', 'images'],
    'growth': ['--sizes', '64', '224', '--batches', '1', '2', '--plot', '{out}/growth.png'],
}


@pytest.mark.parametrize('name', [pytest.param(n, marks=pytest.mark.slow) for n in SMALL])
def test_benchmark(name, tmp_path, monkeypatch, capsys):
    module = pytest.importorskip(name)
    table = tmp_path / 'table.json'
    options = [word.format(out=tmp_path) for word in SMALL[name]]
    command = [f'{name}.py', *options, '--repeats', '1', '--threads', '1', '--json', str(table)]
    monkeypatch.setattr(sys, 'argv', command)
    module.main()
    content = json.loads(table.read_text())
    assert content['command'].startswith(f'python benchmarks/{name}.py')
    assert '--json' not in content['command']
    printed = capsys.readouterr().out
    for part in content['tables']:
        assert part['rows']
        assert all(len(row) == len(part['header']) for row in part['rows'])
        assert all(f'| {row[0]} |' in printed for row in part['rows'])
    if name == 'growth':
        assert (tmp_path / 'growth.png').stat().st_size > 10_000


@pytest.mark.parametrize('metric', ['bbox', 'segm'])
def test_the_fast_coco_metrics_give_all_twelve_figures(tmp_path, metric):
    """``val_evaluator.type`` changes the time and nothing else."""
    pytest.importorskip('faster_coco_eval', reason='the fast metric needs faster-coco-eval')
    import coco_eval
    from mmdet.evaluation import CocoMetric

    rng = np.random.default_rng(0)
    path = tmp_path / 'boxes.json'
    masks = metric == 'segm'
    truth = coco_eval.write_annotations(path, 12, rng, masks)
    samples = coco_eval.detections(truth, 20, rng, masks)
    exact = coco_eval.evaluate(CocoMetric, path, samples, metric)
    assert len(exact) == 12
    assert 0 < exact[f'coco/{metric}_mAP'] < 1
    for kind in coco_eval.KINDS.values():
        assert coco_eval.evaluate(kind, path, samples, metric) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    'kernel, stride, choice, count',
    [(1, 1, 'output_gate', 3), (3, 1, 'gemm_taps', 6), (3, 2, 'gather_taps', 6)],
)
def test_the_forms_of_the_gpu_kit_are_all_exact(kernel, stride, choice, count):
    import gpu
    import torch

    where = gpu.aw_engine.Where((stride, stride), (kernel // 2,) * 2, (1, 1))
    x, weight = torch.randn(2, 32, 4, 3), torch.randn(6, 32, kernel, kernel)
    attn = torch.rand(2, 6, 1, kernel, kernel)
    forms = gpu.forms_of(x, weight, attn, where)
    assert len(forms) == count
    exact = gpu.aw_engine.aw_conv2d(x, weight, attn, where)
    for name, form in forms.items():
        if name == 'plain':
            assert form().shape == exact.shape
        else:
            torch.testing.assert_close(form(), exact, rtol=1e-4, atol=1e-4)
    assert gpu.picked(x, weight, attn, where) == choice


def test_the_gpu_kit_compares_precisions_and_keeps_to_its_time(monkeypatch, capsys):
    import gpu

    some = [m for m in gpu.METHODS if m.name in ('SE', 'AWConv2d', 'AWFPN')]
    monkeypatch.setattr(gpu, 'METHODS', some)
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--tiny', '--only', 'precision'])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(' | ') for line in lines if ' to float32' in line]
    assert [row[1] for row in rows] == ['SE', 'AWConv2d']
    for row in rows:
        (gap,) = re.findall(r'bf16 (\S+) ', row[2])
        assert 1e-6 < float(gap) < 0.1  # half precision is another one, and near
    clock = iter([0, 10, 10**6])
    monkeypatch.setattr(gpu.time, 'monotonic', lambda: next(clock))
    monkeypatch.setitem(gpu.PARTS, 'precision', lambda args: iter([['a', 'b', 'c']] * 9))
    gpu.main()
    out = capsys.readouterr().out
    assert out.count('| a | b | c |') == 2
    assert '| precision | left out | more of it: 20 minutes were over |' in out


def test_interleave_takes_turns():
    import harness

    calls = []
    forms = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = harness.interleave(forms, repeats=2)
    assert ''.join(calls) == 'ababab'
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    assert harness.ratio({'a': [2.0, 9.0, 4.0], 'b': [1.0, 3.0, 1.0]}, 'a', to='b') == 3.0


def test_peak_memory():
    import harness
    import torch

    def form():
        a = torch.zeros(256, 1024)  # 1 MiB
        b = a + 1
        del a
        return (b + 1).sum()

    assert harness.peak_bytes(form) == pytest.approx(2 * 2**20, rel=0.01)


@pytest.mark.parametrize('words', ['--repeats 0', '--threads -1', '--repeats many'])
def test_counts_start_at_one(words, capsys):
    from harness import make_parser

    with pytest.raises(SystemExit):
        make_parser('', repeats=1).parse_args(words.split())
    assert 'must be a whole number from 1 on, got ' in capsys.readouterr().err


def test_tables_are_of_one_whole_run(tmp_path, monkeypatch):
    benchmarks = importlib.import_module('all')
    out = tmp_path / 'bench'
    out.mkdir()
    for name in ('09_tdam.json', 'mine.json'):
        tables = [dict(title='t', header=['h'], rows=[[1]])]
        content = dict(command='c', machine='m', tables=tables)
        (out / name).write_text(json.dumps(content))
    done = type('Done', (), dict(returncode=0))
    monkeypatch.setattr(benchmarks.subprocess, 'run', lambda command: done)
    for only, left in ((['tdam'], {'09_tdam.json', 'mine.json'}), ([], {'mine.json'})):
        words = ['all.py', '--out', str(out), *(['--only', *only] if only else [])]
        monkeypatch.setattr(sys, 'argv', words)
        assert benchmarks.main() == 0
        assert {path.name for path in out.glob('*.json')} == left
