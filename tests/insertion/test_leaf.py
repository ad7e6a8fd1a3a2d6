"""The leaf config: short, and the returned config when it is read again."""

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config

import mmattn
from mmattn.insertion import leaf_text, read_config
from mmattn.insertion.leaf import difference

RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


def plain_data(cfg):
    """A config without its report, and without the scopes that an inherited one writes down."""

    def clean(value):
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k != '_scope_'}
        return type(value)(map(clean, value)) if isinstance(value, list | tuple) else value

    data = clean(cfg.to_dict())
    data.pop('mmattn', None)
    return data


@pytest.mark.parametrize(
    'method, lines',
    [
        ('CBAM', 8),
        (['NonLocal', 'AWFPN'], 20),
        ('TDAM', 5),
        ('SSIA', 12),
        (['CBAM', 'AWFPN', 'SSIA'], 28),
    ],
    ids=str,
)
def test_read_again_it_is_the_returned_config(method, lines, tmp_path):
    new = mmattn.add_attention(RETINANET, method)
    text = leaf_text(RETINANET, read_config(RETINANET), new)
    assert len(text.splitlines()) <= lines
    (tmp_path / 'leaf.py').write_text(text)
    again = Config.fromfile(tmp_path / 'leaf.py')
    assert plain_data(again) == plain_data(new)


def test_a_base_file_is_named_from_where_the_leaf_lies(tmp_path):
    (tmp_path / 'sub').mkdir()
    base = tmp_path / 'base.py'
    base.write_text("_base_ = 'mmdet::ssd/ssd300_coco.py'\n")
    new = mmattn.add_attention(base, 'CBAM')
    out = tmp_path / 'sub' / 'leaf.py'
    out.write_text(leaf_text(str(base), read_config(base), new, out))
    assert "_base_ = '../base.py'" in out.read_text()
    assert plain_data(Config.fromfile(out)) == plain_data(new)


def test_a_name_that_mmengine_cannot_read_as_base(tmp_path):
    name = 'mmdet::gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py'
    new = mmattn.add_attention(name, 'SE')
    (tmp_path / 'leaf.py').write_text(leaf_text(name, read_config(name), new))
    assert plain_data(Config.fromfile(tmp_path / 'leaf.py')) == plain_data(new)


def test_the_lazy_style_is_refused(tmp_path):
    base = tmp_path / 'lazy.py'
    base.write_text('from mmdet.models import ResNet\nmodel = dict(backbone=dict(type=ResNet))\n')
    with pytest.raises(ValueError, match='lazy style'):
        leaf_text(str(base), None, None)


@pytest.mark.parametrize(
    'old, new, wanted',
    [
        (dict(a=1), dict(a=1), {}),
        (dict(a=1), dict(a=2, b=3), dict(a=2, b=3)),
        (dict(a=dict(b=1, c=2)), dict(a=dict(b=1, c=3)), dict(a=dict(c=3))),
        (dict(a=dict(b=1, c=2)), dict(a=dict(b=1)), dict(a=dict(_delete_=True, b=1))),
        (dict(a=None), dict(a=dict(b=1)), dict(a=dict(_delete_=True, b=1))),
        (dict(a=dict(b=1)), dict(a=None), dict(a=None)),
        (dict(a=[1]), dict(a=(1,)), dict(a=(1,))),
        (dict(a=[1]), dict(a=[1, 2]), dict(a=[1, 2])),
    ],
)
def test_difference(old, new, wanted):
    assert difference(old, new) == wanted


def test_a_list_that_grew_is_written_as_that():
    found = difference(dict(hooks=[1]), dict(hooks=[1, 2]), '_base_')
    assert found == dict(hooks=['*_base_.hooks', 2])
