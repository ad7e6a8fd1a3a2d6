"""Every shipped config builds, computes what it says, and stands in its method's metafile."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(
    path
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts and 'runtime' not in path.name
)
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
METAFILES = [yaml.safe_load((ROOT / name).read_text()) for name in INDEX['Import']]
MODELS_LISTED = {ROOT / m['Config']: m for file in METAFILES for m in file['Models']}
DETECTORS = ('faster-rcnn', 'retinanet', 'ssd300')


def build(path):
    if not path.stem.startswith(DETECTORS):
        pytest.importorskip('mmpretrain', reason='a classifier, and mmpretrain is not installed')
    cfg = Config.fromfile(path)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = cfg.model
    _drop_pretrained(model)
    return MODELS.build(model), cfg


def _drop_pretrained(cfg):
    """Checkpoints live on the network; a test needs none."""
    if isinstance(cfg, dict):
        if 'init_cfg' in cfg and 'checkpoint' in (cfg['init_cfg'] or {}):
            cfg['init_cfg'] = None
        for value in cfg.values():
            _drop_pretrained(value)


@pytest.fixture
def no_draws(monkeypatch):
    """Networks without initial values: drawing them is most of the time that building takes."""
    monkeypatch.setattr(torch.nn.init, 'kaiming_uniform_', lambda tensor, *args, **kwargs: tensor)


@pytest.mark.usefixtures('no_draws')
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_builds(path):
    model, cfg = build(path)
    assert sum(p.numel() for p in model.parameters()) > 0
    if path in MODELS_LISTED:  # its metafile says how long it trains
        epochs = MODELS_LISTED[path].get('Metadata', {}).get('Epochs')
        assert cfg.train_cfg.get('max_epochs') == epochs


def test_every_config_keeps_a_checkpoint_while_the_next_is_written():
    """mmengine deletes first: with one to keep, a kill meanwhile leaves none."""
    texts = {path: path.read_text() for path in (ROOT / 'configs').rglob('*.py')}
    assert [path for path, text in texts.items() if re.search(r'max_keep_ckpts=1\b', text)] == []


# neck parameters: COSTS.md, "Own reference numbers"
ROWS = {
    'fpn': 3344384,
    'aw-fpn': 3459328,
    'se-fpn': 4078640,
    'aw-se-fpn': 4193584,
    'cbam-fpn': 4079440,
    'aw-cbam-fpn': 4194384,
}


@pytest.mark.parametrize('depth', [50, 101])
@pytest.mark.parametrize('row', ROWS)
def test_the_rows_of_table_3(row, depth):
    model, cfg = build(ROOT / f'configs/aw_fpn/faster-rcnn_r{depth}_{row}_1x_coco.py')
    assert cfg.model.backbone.depth == depth
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert sum(p.numel() for p in model.neck.parameters()) == ROWS[row]


def test_index_and_metafiles_name_files_that_exist():
    listed = set()
    for metafile in METAFILES:
        collections = {collection['Name'] for collection in metafile['Collections']}
        for collection in metafile['Collections']:
            assert (ROOT / collection['README']).is_file(), collection['README']
        for model in metafile['Models']:
            assert model['In Collection'] in collections
            assert (ROOT / model['Config']).is_file(), model['Config']
            assert Path(model['Config']).stem == model['Name']
            listed.add(ROOT / model['Config'])
    in_folders = {path for path in CONFIGS if (path.parent / 'metafile.yml').is_file()}
    assert in_folders == listed


def test_the_multi_label_config_has_the_asymmetric_loss_of_the_paper():
    model, _ = build(ROOT / 'configs/tdam/td-resnet50-joint-t2m1_8xb16_coco-multilabel.py')
    loss = model.head.loss_module
    assert type(loss).__name__ == 'AsymmetricLoss'
    assert (loss.gamma_neg, loss.gamma_pos, loss.clip) == (4, 0, 0.05)


def test_the_ten_blocks_of_r101_alternate():
    model, _ = build(ROOT / 'configs/tdam/td-resnet101-joint-t2m1-10-blocks_4xb128-150e_in1k.py')
    top_down = [i for i, b in enumerate(model.backbone.layer3) if hasattr(b, 'searchlight')]
    assert top_down == list(range(0, 20, 2))


def test_the_pyramid_before_an_fpn_starts_as_the_plain_one():
    cfg = Config.fromfile(
        ROOT / 'configs/attention_resnet/faster-rcnn_r50-pyramid-c2-c5_fpn_1x_coco.py'
    )
    init_default_scope('mmdet')
    pyramid, fpn = neck = MODELS.build(cfg.model.neck).eval()
    assert [level.in_channels for level in pyramid.levels] == [256, 512, 1024, 2048]
    maps = [torch.randn(1, 256 * 2**i, 16 // 2**i, 8 // 2**i) for i in range(4)]
    with torch.no_grad():
        torch.testing.assert_close(neck(maps), fpn(maps), rtol=0, atol=0)
        torch.nn.init.constant_(pyramid.gamma, 1)
        assert not torch.equal(neck(maps)[0], fpn(maps)[0])  # the top reaches every level
