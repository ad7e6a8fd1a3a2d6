"""mmattn's names in the hosts' configs, and what ``import mmattn`` costs."""

import subprocess
import sys
import textwrap

import pytest
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import MODELS as ROOT_MODELS

import mmattn


def run(code, cwd):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={'PYTHONPATH': ':'.join(sys.path), 'PATH': ''},
    )


def test_import_is_light(tmp_path):
    code = """
        import sys, mmattn
        hosts = {'mmdet', 'mmcv', 'mmpretrain', 'mmengine', 'torch'} & set(sys.modules)
        assert not hosts, hosts
    """
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_layers_need_no_detector(tmp_path):
    code = """
        import sys
        sys.modules['mmdet'] = sys.modules['mmcv'] = sys.modules['mmpretrain'] = None
        from mmattn.layers import CBAM, SE
        from mmattn.convs import AWConv2d
    """
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_built_from_anywhere_without_custom_imports(tmp_path):
    code = """
        import sys
        from mmdet.registry import MODELS
        assert 'mmattn' not in sys.modules
        gate = MODELS.build(dict(type='mmattn.SE', in_channels=32))
        neck = MODELS.build(dict(type='mmattn.AWFPN', in_channels=[8], out_channels=8, num_outs=1))
        assert type(gate).__module__ == 'mmattn.layers.se', type(gate)
        assert type(neck).__module__ == 'mmattn.necks.aw_fpn', type(neck)
    """
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('registry', [MMDET_MODELS, ROOT_MODELS], ids=['mmdet', 'mmengine'])
@pytest.mark.parametrize(
    'name, close', [('AWFPM', 'AWFPN'), ('Cbam', 'CBAM'), ('AWConv', 'AWConv2d')]
)
def test_misspelt_type_names_the_closest(registry, name, close):
    with pytest.raises(
        KeyError, match=f"'mmattn.{name}' is not registered; did you mean .*'mmattn.{close}'"
    ):
        registry.build(dict(type=f'mmattn.{name}'))


def test_unlike_anything_lists_all_names():
    with pytest.raises(KeyError, match="registered names are .*'?AWConv2d.*CBAM"):
        MMDET_MODELS.build(dict(type='mmattn.Zzzzzz'))


def test_dotted_path_still_resolves():
    assert MMDET_MODELS.get('mmattn.layers.se.SE').__name__ == 'SE'


def test_old_host_gets_one_sentence(monkeypatch):
    monkeypatch.setattr('importlib.metadata.version', lambda name: '2.28.1')
    with pytest.raises(
        ImportError, match='mmdet 2.28.1 is too old; mmattn needs mmdet >= 3.0.0: pip'
    ):
        mmattn.require_host('mmdet')


def test_missing_host_gets_one_sentence(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(
        ImportError, match='mmdet is not installed; .* pip install onedl-mmdetection'
    ):
        mmattn.require_host('mmdet')


def test_broken_host_gets_one_sentence(monkeypatch):
    def broken(name):
        raise AssertionError('MMCV==2.9 is used but incompatible')

    require_host = mmattn.require_host  # looked up by import_module itself
    monkeypatch.setattr('importlib.import_module', broken)
    with pytest.raises(ImportError, match='mmdet is installed but does not import .*MMCV==2.9'):
        require_host('mmdet')


def test_register_all_modules():
    mmattn.register_all_modules()
    from mmattn.registry import MODELS

    assert {'AWConv2d', 'AWFPN', 'CBAM', 'SE'} <= set(MODELS.module_dict)
