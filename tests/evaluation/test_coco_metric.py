"""``mmattn.CocoMetric`` beside mmdet's: every figure, by either engine."""

import copy
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric as Reference
from mmdet.registry import METRICS
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from mmattn.evaluation import coco
from mmattn.evaluation.coco_metric import CocoMetric

from . import scenes

ENGINES = [
    pytest.param(
        engine,
        marks=pytest.mark.skipif(
            engine == 'hotcoco' and coco.choose_engine() != engine, reason='needs hotcoco'
        ),
    )
    for engine in coco.ENGINES
]
ALL = list(coco.FIGURES)


@pytest.fixture(autouse=True)
def _quiet():
    MMLogger.get_current_instance().setLevel('ERROR')


def run(metric, samples, classes=scenes.CLASSES):
    metric.dataset_meta = dict(classes=classes)
    for sample in copy.deepcopy(samples):
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


@pytest.fixture
def scene(tmp_path, request):
    rng = np.random.default_rng(getattr(request, 'param', 0))
    path = tmp_path / 'truth.json'
    content = scenes.write_truth(path, 30, rng)
    return str(path), scenes.samples(content, rng)


def exact(path, samples, kind, cat_ids=(9, 5, 1)):
    """Pycocotools by hand, from JSON's own lists, without mmdet's rounding."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(path)
    results = [
        dict(image_id=s['img_id'], category_id=cat_ids[label], score=float(score), **shape)
        for s in samples
        for p in [s['pred_instances']]
        for box, mask, label, score in zip(p['bboxes'], p['masks'], p['labels'], p['scores'])
        for x1, y1, x2, y2 in [box.tolist()]
        for shape in [
            dict(bbox=[x1, y1, x2 - x1, y2 - y1]) if kind == 'bbox' else dict(segmentation=mask)
        ]
    ]
    evaluator = COCOeval(truth, truth.loadRes(results), kind)
    evaluator.params.catIds = list(cat_ids)
    evaluator.params.maxDets = [100, 300, 1000]
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator


@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
@pytest.mark.parametrize('scene', [0, 1, 2], indirect=True)
def test_the_twelve_figures_are_pycocotools(scene, kind, engine):
    path, samples = scene
    values = run(CocoMetric(path, kind, digits=None, engine=engine, metric_items=ALL), samples)
    expected = exact(path, samples, kind)
    assert list(values) == [f'coco/{kind}_{name}' for name in ALL]
    assert list(values.values()) == pytest.approx(expected.stats.tolist(), abs=1e-12)
    assert 0.05 < values[f'coco/{kind}_mAP'] < 0.95
    sizes = [values[f'coco/{kind}_mAP_{size}'] for size in 'sml']
    assert len({round(size, 6) for size in sizes}) == 3  # so an exchanged size would be seen


@pytest.mark.parametrize('engine', ENGINES)
def test_results_are_mmdets(scene, engine):
    path, samples = scene
    for options in (
        dict(),
        dict(classwise=True),
        dict(metric=['bbox', 'segm']),
        dict(metric='proposal'),
        dict(metric_items=['mAP_50', 'AR@300']),
        dict(proposal_nums=(1, 10, 100)),
        dict(iou_thrs=np.array([0.5, 0.6])),
        dict(prefix='mine'),
    ):
        expected = run(Reference(path, **options), samples)
        if 'classwise' in options:  # mmdet takes the file's order for the order of the ids
            names = [f'coco/{name}_precision' for name in scenes.CLASSES]
            rows = [expected.pop(name) for name in names]
            values = run(CocoMetric(path, engine=engine, **options), samples)
            ours = [values.pop(name) for name in names]
            assert sorted(map(str, ours)) == sorted(map(str, rows))
            assert str(ours[2]) == 'nan'  # there is no owl
        else:
            values = run(CocoMetric(path, engine=engine, **options), samples)
        assert values == expected
        assert list(values) == list(expected)


@pytest.mark.parametrize('engine', ENGINES)
def test_classwise_rows_belong_to_their_categories(scene, engine):
    path, samples = scene
    values = run(CocoMetric(path, classwise=True, digits=None, engine=engine), samples)
    precision = exact(path, samples, 'bbox').eval['precision']  # classes by id: owl, dog, cat
    for name, index in (('dog', 1), ('cat', 2)):
        own = precision[:, :, index, 0, -1]
        assert values[f'coco/{name}_precision'] == pytest.approx(own[own > -1].mean(), abs=1e-12)
    assert values['coco/dog_precision'] != values['coco/cat_precision']


@pytest.mark.parametrize('engine', ENGINES)
def test_truth_of_the_data_set_itself(scene, engine):
    _, samples = scene
    for sample in samples:
        sample['img_id'] = f'name {sample["img_id"]}'  # as mmdet's XMLDataset has them
    options = dict(metric_items=ALL, classwise=True)
    expected = run(Reference(**options), samples)
    metric = CocoMetric(engine=engine, **options)
    assert run(metric, samples) == pytest.approx(dict(expected), abs=1e-12)
    assert run(metric, samples[::-1]) == pytest.approx(dict(expected), abs=1e-12)  # again


@pytest.mark.parametrize('engine', ENGINES)
def test_a_detector_that_finds_nothing_has_no_precision(scene, engine):
    path, samples = scene
    for sample in samples:
        for name, value in sample['pred_instances'].items():
            sample['pred_instances'][name] = value[:0]
    values = run(CocoMetric(path, ['bbox', 'segm'], engine=engine), samples)
    assert values['coco/bbox_mAP'] == 0
    assert values['coco/segm_mAP'] == 0


@pytest.mark.skipif(coco.choose_engine() != 'hotcoco', reason='needs hotcoco')
def test_no_file_is_written(scene, monkeypatch):
    path, samples = scene
    metric = CocoMetric(path)
    monkeypatch.setattr('builtins.open', None)
    monkeypatch.setattr('tempfile.TemporaryDirectory', None)
    assert run(metric, samples)['coco/bbox_mAP'] > 0


def test_files_on_request(scene, tmp_path):
    path, samples = scene
    options = dict(outfile_prefix=str(tmp_path / 'out'), format_only=True)
    assert run(CocoMetric(path, **options), samples) == {}
    assert (tmp_path / 'out.bbox.json').stat().st_size > 1000


def test_found_by_name_in_the_configs_of_mmdet(scene):
    path, samples = scene
    assert type(METRICS.build(dict(type='mmattn.CocoMetric', ann_file=path))) is CocoMetric
    evaluator = Evaluator(dict(type='mmattn.CocoMetric', ann_file=path))
    evaluator.dataset_meta = dict(classes=scenes.CLASSES)
    evaluator.process(copy.deepcopy(samples))
    assert evaluator.evaluate(len(samples)) == run(CocoMetric(path), samples)
    with pytest.raises(KeyError, match="did you mean 'mmattn.CocoMetric'"):
        METRICS.build(dict(type='mmattn.CocoMetrics'))


def test_without_hotcoco_pycocotools_evaluates(scene, monkeypatch):
    path, samples = scene
    expected = run(CocoMetric(path), samples)
    monkeypatch.setitem(sys.modules, 'hotcoco', None)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    metric = CocoMetric(path)
    assert metric.engine == 'pycocotools'
    assert run(metric, samples) == expected
    with pytest.raises(ImportError, match='pip install hotcoco'):
        CocoMetric(path, engine='hotcoco')


def test_names_as_image_ids_of_a_file(scene, tmp_path):
    path, samples = scene
    expected = run(CocoMetric(path), samples)
    content = json.loads(Path(path).read_text())
    for image in content['images']:
        image['id'] = f'no. {image["id"]:04}'
    for one in content['annotations']:
        one['image_id'] = f'no. {one["image_id"]:04}'
    for sample in samples:
        sample['img_id'] = f'no. {sample["img_id"]:04}'
    named = tmp_path / 'named.json'
    named.write_text(json.dumps(content))
    assert run(CocoMetric(str(named)), samples) == expected


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(metric='box'), "metric must be one of .*, got 'box'"),
        (dict(metric='proposal_fast'), "got 'proposal_fast': 'proposal' gives its recalls"),
        (dict(metric_items=['AP']), "metric_items must be among .*, got 'AP'"),
        (dict(proposal_nums=(100,)), r'proposal_nums must be three numbers, got \(100,\)'),
        (dict(engine='fast'), "engine must be one of .* or None, got 'fast'"),
        (dict(format_only=True), 'needs outfile_prefix'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CocoMetric(**options)


@pytest.mark.parametrize('engine', ENGINES)
def test_annotations_that_are_not_there(engine, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"annotation file '.*gone\.json' does not exist"):
        CocoMetric(ann_file=str(tmp_path / 'gone.json'), engine=engine)


def test_other_images_than_the_annotations(scene):
    path, samples = scene
    samples[3]['img_id'] = 12345
    with pytest.raises(ValueError, match='1 tested images are not among the 30 .* id 12345'):
        run(CocoMetric(path), samples)


def test_masks_of_a_model_without_masks(scene):
    path, samples = scene
    for sample in samples:
        del sample['pred_instances']['masks']
    with pytest.raises(ValueError, match='gives boxes only'):
        run(CocoMetric(path, 'segm'), samples)


def gather(rank, store, path, samples, out):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{store}', rank=rank, world_size=2
    )
    os.chdir(out)
    metric = CocoMetric(path, ['bbox', 'segm'], classwise=True)
    metric.dataset_meta = dict(classes=scenes.CLASSES)
    # the loader repeats an image so that both processes have as many
    own = [*samples, samples[0]][rank::2]
    metric.process({}, own)
    values = metric.evaluate(len(samples))
    (out / f'{rank}.txt').write_text(str(values))


@pytest.mark.slow
def test_two_processes_gather_their_images_in_memory(scene, tmp_path):
    path, samples = scene
    metric = CocoMetric(path, ['bbox', 'segm'], classwise=True)
    expected = run(metric, samples[:29])
    torch.multiprocessing.spawn(
        gather, (str(tmp_path / 'store'), path, samples[:29], tmp_path), nprocs=2
    )
    for rank in range(2):
        assert (tmp_path / f'{rank}.txt').read_text() == str(expected)
    assert not (tmp_path / '.dist_test').exists()  # where mmengine leaves what it gathers


def test_how_processes_gather(scene):
    assert CocoMetric(scene[0]).collect_device == 'gpu'  # mmengine's word for: in memory
    assert CocoMetric(scene[0], collect_device='cpu').collect_device == 'cpu'
