"""The run: killed and resumed, sharded, with broken images; all end with the same numbers."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmattn.localization import images, results
from mmattn.localization import progress as showing
from mmattn.localization import run as running
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import center_baseline, check_labels, evaluate, table
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.images import ImageDataset, collate
from mmattn.localization.localizer import Localizer, Settings, best_iou
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.report import MEANING
from mmattn.localization.results import LOG_NAME, ResultLog, RunInfo, RunPlan, merge_logs, read_log
from mmattn.localization.run import fix_batches, write_results
from mmattn.localization.structures import AnnotatedImage, Geometry, ImageResult
from mmattn.localization.work_dir import fingerprint
from tests.localization.data import boxes_json
from tests.localization.nets import gap_net

ROOT = Path(__file__).resolve().parents[2]
NET = 'python:tests.localization.nets:tiny'


@pytest.fixture
def found(tmp_path):
    images, path = boxes_json(tmp_path, 11)
    return load_annotations(path, images)


def classifier():
    return load_classifier(NET)


def start(found, work_dir, resume=False, **options):
    settings = Settings(**dict(dict(batch_size=3, sweep_step=0.01), **options))
    return write_results(
        classifier(), found.images, RunPlan(settings, work_dir, workers=0, resume=resume)
    )


def text(work_dir):
    return (Path(work_dir) / LOG_NAME).read_text()


def test_a_result_survives_its_line(tmp_path):
    item = ImageResult('a', 1, (1, 2), 1 / 3, ((0.1, 2, 3, 4),), (0.5,), (((1, 2, 3, 4),),))
    with ResultLog(tmp_path / 'x.jsonl') as log:
        log.append([item])
    assert [r for _, r in read_log(tmp_path / 'x.jsonl')] == [item]
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        ImageResult.from_dict(dict(key='a', label=1, colour='red'))


@pytest.mark.parametrize('cut', [1, 20, 70, 100_000])
def test_a_cut_last_line_is_dropped_and_repaired(tmp_path, cut):
    path = tmp_path / 'x.jsonl'
    items = [ImageResult(str(i), i) for i in range(3)]
    with ResultLog(path) as log:
        log.append(items)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(lines[:2]) + lines[2][: min(cut, len(lines[2]) - 1)])
    assert [r for _, r in read_log(path)] == items[:2]
    with ResultLog(path) as log:
        log.append(items[2:])
    assert [r for _, r in read_log(path)] == items


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / 'x.jsonl'
    path.write_text('{"key": "a", "label": 1}\n{"key"\n{"key": "b", "label": 1}\n')
    with pytest.raises(ValueError, match='line 2 cannot be read'):
        list(read_log(path))


def test_logs_merge_in_order_each_image_once(tmp_path):
    for rank, keys in enumerate(('ca', 'bd')):
        with ResultLog(tmp_path / f'per_image.rank{rank}.jsonl') as log:
            log.append([ImageResult(k, 0) for k in keys])
    with ResultLog(tmp_path / LOG_NAME) as log:
        log.append([ImageResult('a', 7)])  # the merged log's line counts, not the part's
    merged = [(r.key, r.label) for r in merge_logs(tmp_path, 'abcd')]
    assert merged == [('a', 7), ('b', 0), ('c', 0), ('d', 0)]
    assert [p.name for p in tmp_path.iterdir()] == [LOG_NAME]
    assert [r.key for _, r in read_log(tmp_path / LOG_NAME)] == list('abcd')
    with pytest.raises(ValueError, match='1 images have no result, first e'):
        list(merge_logs(tmp_path, 'abcde'))


def test_batches_are_fixed():
    assert fix_batches(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]


class Killed(Exception):
    pass


@pytest.mark.parametrize('kill_after', [0, 1, 2, 3])
@pytest.mark.parametrize('cut', [0, 1, 300])
def test_a_killed_run_ends_with_the_identical_result(
    tmp_path, found, monkeypatch, kill_after, cut
):
    whole, _ = start(found, tmp_path / 'whole')
    writes = []
    append = ResultLog.append

    def killing(self, items):
        if len(writes) == kill_after:
            raise Killed
        writes.append(items)
        append(self, items)

    monkeypatch.setattr(ResultLog, 'append', killing)
    with pytest.raises(Killed):
        start(found, tmp_path / 'cut')
    monkeypatch.undo()
    log = tmp_path / 'cut' / LOG_NAME
    log.write_bytes(log.read_bytes()[: max(log.stat().st_size - cut, 0)])
    resumed, _ = start(found, tmp_path / 'cut', resume=True)
    assert text(tmp_path / 'cut') == text(tmp_path / 'whole')
    assert resumed.summary() == whole.summary()


def test_resume_does_only_what_is_left(tmp_path, found, monkeypatch):
    start(found, tmp_path / 'a')
    calls = []
    submit = Localizer.submit
    monkeypatch.setattr(
        Localizer, 'submit', lambda self, *a: calls.append(len(a[1])) or submit(self, *a)
    )
    start(found, tmp_path / 'a', resume=True)
    assert calls == []
    log = tmp_path / 'a' / LOG_NAME
    whole = log.read_text()
    log.write_text(''.join(whole.splitlines(keepends=True)[:4]))
    start(found, tmp_path / 'a', resume=True)
    assert log.read_text() == whole
    assert calls == [3, 3, 2]  # images 3 to 5 again, so that the batch is the same


@pytest.mark.parametrize('world', [2, 3])
def test_shards_give_the_identical_result(tmp_path, found, monkeypatch, world):
    whole, _ = start(found, tmp_path / 'whole')
    (tmp_path / 'shards').mkdir()
    work, submit = [], Localizer.submit
    monkeypatch.setattr(
        Localizer, 'submit', lambda self, *a: work.append(len(a[1])) or submit(self, *a)
    )
    for rank in reversed(range(world)):  # rank 0 ends last and joins
        work.clear()
        monkeypatch.setattr(running, 'get_dist_info', lambda rank=rank: (rank, world))
        outcome = start(found, tmp_path / 'shards', resume=True)
        assert (outcome is None) == (rank > 0)
        assert work == [len(batch) for batch in fix_batches(11, 3)[rank::world]]
    assert text(tmp_path / 'shards') == text(tmp_path / 'whole')
    assert outcome[0].summary() == whole.summary()
    assert not list((tmp_path / 'shards').glob('*rank*'))


def test_the_run_takes_the_shortcut_and_the_long_way_agrees(tmp_path, found):
    for rule in ('gradcam-0.15', 'clova-v2', 'tdam'):
        short, _ = start(found, tmp_path / f'{rule}-s', rule=get_rule(rule))
        long, _ = start(found, tmp_path / f'{rule}-l', rule=get_rule(rule), maps='top5')
        assert short.summary() == long.summary()
        items = [r for _, r in read_log(tmp_path / f'{rule}-l' / LOG_NAME)]
        assert all(len(r.class_ious) == len(r.top5) == 4 for r in items)
        at = [r.top5.index(r.label) for r in items]
        assert [r.class_ious[i] for r, i in zip(items, at)] == [r.iou for r in items]
        assert len({r.class_boxes for r in items for _ in r.top5}) > 1


def test_results_equal_the_steps_done_by_hand(tmp_path, found):
    from mmattn.localization.boxes import boxes_from_maps
    from mmattn.localization.cam import ScoreMaps
    from mmattn.localization.sweep import iou_matrix

    start(found, tmp_path / 'a')
    net = classifier()
    dataset = ImageDataset(found.images, net.preprocess)
    for (_, item), index in zip(read_log(tmp_path / 'a' / LOG_NAME), range(11)):
        image = found.images[index]
        _, batch, (geometry,), _ = collate([dataset[index]])
        with ScoreMaps(net.model) as maps:
            out = maps(net.preprocess.normalize(batch), torch.tensor([image.label]))
        boxes = geometry.to_image(boxes_from_maps(out.maps[:, 0], (32, 32))[0])
        iou = iou_matrix(boxes, image.boxes_xyxy).max()
        assert item.key == image.key
        assert item.iou == pytest.approx(iou, abs=1e-4)
        assert list(item.top5) == out.logits[0].topk(4).indices.tolist()


def test_broken_images_are_counted_and_the_run_goes_on(tmp_path, found):
    for index in (0, 5):
        found.images[index].path.write_bytes(b'nothing')
    metrics, info = start(found, tmp_path / 'a')
    assert (metrics.images, metrics.failed) == (9, 2)
    assert [k for k, _ in info.failures] == ['p0.png', 'p5.png']
    assert 'cannot decode' in info.failures[0][1]
    assert len(text(tmp_path / 'a').splitlines()) == 11
    for image in found.images:
        image.path.write_bytes(b'nothing')
    with pytest.raises(ValueError, match='none of the 11 images can be decoded'):
        start(found, tmp_path / 'b')


def test_worker_processes_give_the_same(tmp_path, found):
    settings = Settings(batch_size=3)
    write_results(classifier(), found.images, RunPlan(settings, tmp_path / 'a', workers=0))
    write_results(classifier(), found.images, RunPlan(settings, tmp_path / 'b', workers=2))
    assert text(tmp_path / 'a') == text(tmp_path / 'b')


def test_other_weights_are_not_resumed(tmp_path, found):
    settings, net = Settings(batch_size=3, sweep_step=0), classifier()
    write_results(net, found.images, RunPlan(settings, tmp_path / 'a', workers=0))
    write_results(net, found.images, RunPlan(settings, tmp_path / 'a', workers=0, resume=True))
    kept = (tmp_path / 'a/run.json').read_text()
    with torch.no_grad():
        net.model[-1].bias[0] += 1e-6  # another checkpoint of the same name
    with pytest.raises(ValueError, match=r'cannot resume .* settings differ \(weights_hash was'):
        write_results(net, found.images, RunPlan(settings, tmp_path / 'a', workers=0, resume=True))
    assert (tmp_path / 'a/run.json').read_text() == kept


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_fingerprint(dtype):
    nets = [gap_net(4, seed=3).to(dtype) for _ in range(2)]
    assert fingerprint(nets[0]) == fingerprint(nets[1])
    with torch.no_grad():
        nets[1][1].num_batches_tracked += 1
    assert fingerprint(nets[0]) != fingerprint(nets[1])
    swapped = torch.nn.Sequential(nets[0][3], nets[0][0])
    assert fingerprint(swapped) != fingerprint(torch.nn.Sequential(nets[0][0], nets[0][3]))


@pytest.mark.parametrize('torn', ['', '{"model": "pyth', '[]'])
def test_a_torn_run_file_is_named(tmp_path, found, torn):
    start(found, tmp_path / 'a')
    file = tmp_path / 'a/run.json'
    whole = file.read_text()
    file.write_text(torn)
    with pytest.raises(ValueError, match=r'a/run\.json is damaged, .* delete the file'):
        start(found, tmp_path / 'a', resume=True)
    assert file.read_text() == torn
    file.unlink()
    start(found, tmp_path / 'a', resume=True)
    assert file.read_text() == whole


def test_whatever_a_decoder_raises_marks_its_image(tmp_path, found, monkeypatch):
    read = images.read_in_frame

    def broken(path, *args):
        if Path(path).name == 'p2.png':
            raise struct.error('unpack requires a buffer of 4 bytes')
        return read(path, *args)

    monkeypatch.setattr(images, 'read_in_frame', broken)
    metrics, info = start(found, tmp_path / 'a')
    assert (metrics.images, metrics.failed) == (10, 1)
    assert info.failures[0][0] == 'p2.png' and 'unpack requires a buffer' in info.failures[0][1]


def test_work_dirs_that_cannot_be_used(tmp_path, found):
    start(found, tmp_path / 'a')
    with pytest.raises(ValueError, match='already holds results: continue them with --resume'):
        start(found, tmp_path / 'a')
    with pytest.raises(ValueError, match=r'cannot resume .* settings differ \(settings.'):
        start(found, tmp_path / 'a', resume=True, cam='layercam')
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='work dir .*file cannot be written'):
        start(found, tmp_path / 'file')
    with pytest.raises(ValueError, match='no image to evaluate'):
        write_results(classifier(), (), RunPlan(Settings(), tmp_path / 'c'))


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(steps='all'), "steps must be 'last' or 'mean' in an evaluation, got 'all'"),
        (dict(maps='five'), "maps must be 'true' or 'top5', got 'five'"),
        (dict(batch_size=0), 'batch size must be at least 1, got 0'),
        (dict(sweep_step=0.9), r'sweep step must be 0 or in \(0, 0.5\], got 0.9'),
    ],
)
def test_wrong_settings(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values)


def test_labels_outside_the_classifier(found):
    with pytest.raises(ValueError, match='has 3 classes, so labels are 0 to 2, but p3.png has'):
        check_labels(found, 3)
    check_labels(found, 4)


def test_centre_baseline_by_hand(found):
    # every box spans a quarter to a half of the image, so the average box is a quarter wide
    # and sits in the middle: from 3/8 to 5/8, overlap (1/8)^2 of 2 (1/4)^2 - (1/8)^2
    base = center_baseline(found.images, iou_thr=0.1)
    assert base['width'] == pytest.approx(0.25, abs=0.03)
    assert base['gt_known'] > 0.5
    assert center_baseline(found.images, iou_thr=0.3)['gt_known'] == 0


def test_centre_baseline_is_in_the_centre():
    image = AnnotatedImage('a', Path('a.png'), 0, ((30, 20, 70, 80),), (100, 100))
    base = center_baseline([image], iou_thr=0.999)
    assert base == dict(gt_known=1.0, width=pytest.approx(0.4), height=pytest.approx(0.6))


@pytest.mark.parametrize(
    ('rule', 'expected'),
    [('gradcam-0.15', 128 / 171), ('clova-v1', 1.0)],
    ids=['image', 'input'],
)
def test_where_boxes_are_compared(rule, expected):
    geometry = Geometry.resized((20, 40), (10, 10))
    found, truth = [[0, 0, 4, 4]], [[0, 0, 19, 9]]  # 0 0 16 8 in the image; 0 0 4 4 in the input
    assert best_iou(np.array(found), truth, geometry, get_rule(rule)) == pytest.approx(expected)


def test_all_output(tmp_path, found):
    broken = found.images[4].path
    broken.write_bytes(b'nothing')
    info = RunInfo('boxes.json', command='python tools/localize.py <x>')
    settings = Settings(batch_size=4)
    plan = RunPlan(settings, tmp_path / 'a', workers=0, info=info)
    summary = evaluate(classifier(), found, plan)
    again = evaluate(classifier(), found, replace(plan, resume=True))
    assert summary == again
    assert json.loads((tmp_path / 'a/summary.json').read_text()) == json.loads(json.dumps(summary))
    for key in MEANING:
        assert 0 <= summary[key] <= 1
        assert len(summary['interval_95'][key]) == 2
    assert (summary['images'], summary['failed']) == (10, 1)
    assert set(summary['best_threshold']) == {'max_box_acc', 'max_box_acc_v2'}
    assert (tmp_path / 'a/curves.png').stat().st_size > 10_000
    page = (tmp_path / 'a/report.html').read_text()
    assert page.count('<figure class="card"') == 10
    assert 'python tools/localize.py &lt;x&gt;' in page
    assert 'cannot decode' in page
    for word in ('https://', 'src=', 'url(', '@import', 'http://'):
        assert word not in page.replace('http://www.w3.org/2000/svg', '')  # nothing is fetched
    assert page.count('data:image/jpeg;base64,') == page.count('data:image/png;base64,') == 10
    lines = table(summary)
    assert 'unreadable' in lines
    assert f'gt_known        {summary["gt_known"]:>8.4f}' in lines


def test_progress_lines(monkeypatch):
    lines = []
    monkeypatch.setattr(showing, 'print_log', lambda text, _: lines.append(text))
    progress = showing.ResultProgress(4, Settings(), every=0)
    progress.add([ImageResult('a', 1, (1,), 0.9), ImageResult('b', 1, error='x')])
    progress.add([ImageResult('c', 1, (2, 1), 0.9), ImageResult('d', 1, (1,), 0.2)])
    assert lines[0].startswith('[2/4] ')
    assert ' left  top1_loc 1.000  top5_loc 1.000  gt_known 1.000  1 unreadable' in lines[0]
    assert 'top1_loc 0.333  top5_loc 0.667  gt_known 0.667' in lines[1]


def test_memory_stays_flat(tmp_path):
    """What is kept of an image is a few counts: 3,000 more results add next to nothing."""
    import tracemalloc

    bits = tuple(['f' * 64] * 3)
    metrics = LocalizationMetrics(replicates=100)

    def feed(first, count):
        for i in range(first, first + count):
            metrics.update(ImageResult(str(i), i % 9, (1,), 0.5, sweep=dict(v1=bits, v2=bits)))

    feed(0, 640)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    feed(640, 3200)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000


def dist_localize(tmp_path, images, boxes, work_dir, *extra):
    env = dict(os.environ, PYTHON=sys.executable, PORT='29517', OMP_NUM_THREADS='1')
    options = ['--images', images, '--annotations', boxes, '--work-dir', work_dir]
    options += ['--batch-size', '2', '--workers', '0', '--device', 'cpu', *extra]
    command = ['bash', 'tools/dist_localize.sh', '2', NET, *map(str, options)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_two_processes(tmp_path):
    images, boxes = boxes_json(tmp_path, 11)
    done = dist_localize(tmp_path, images, boxes, tmp_path / 'two')
    assert done.returncode == 0, done.stderr
    found = load_annotations(boxes, images)
    plan = RunPlan(Settings(batch_size=2), tmp_path / 'one', workers=0)
    write_results(classifier(), found.images, plan)
    assert text(tmp_path / 'two') == text(tmp_path / 'one')
    assert done.stdout.count('report: ') == 1
    page = (tmp_path / 'two/report.html').read_text()
    assert 'torchrun --nproc-per-node=2 tools/localize.py python:' in page
    assert results.log_files(tmp_path / 'two') == [tmp_path / 'two' / LOG_NAME]
