"""mmattn's names in the hosts' configs, with and without the hosts."""

import subprocess
import sys
import textwrap

import pytest
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import MODELS as ROOT_MODELS

import mmattn
from mmattn.core.hosts import require_host


def run(code, cwd):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={'PYTHONPATH': ':'.join(sys.path), 'PATH': ''},
    )


WITHOUT_MMCV = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition('.')[0] == 'mmcv':
                raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    sys.meta_path.insert(0, Blocked())
    sentence = 'mmcv is not installed; mmattn needs mmcv >= 2.0.0 here: pip install onedl-mmcv'
"""


def test_gates_and_convolutions_need_no_mmcv(tmp_path):
    code = """
        from mmengine.registry import MODELS
        gate = MODELS.build(dict(type='mmattn.SE', in_channels=32))
        conv = MODELS.build(
            dict(type='mmattn.AWConv2d', in_channels=8, out_channels=8, kernel_size=3)
        )
        assert type(gate).__module__ == 'mmattn.layers.se', type(gate)
        assert 'mmdet' not in sys.modules
    """
    result = run(textwrap.dedent(WITHOUT_MMCV) + textwrap.dedent(code), tmp_path)
    assert result.returncode == 0, result.stderr


def test_localization_needs_no_mmcv(tmp_path):
    code = """
        import torch, torchvision
        from mmattn.localization import ScoreMaps, boxes_from_maps
        net = torchvision.models.resnet18(weights=None)
        with ScoreMaps(net, method='layercam') as maps:
            out = maps(torch.rand(1, 3, 64, 64), torch.tensor([3]))
        assert out.maps.shape == (1, 1, 2, 2)
    """
    result = run(textwrap.dedent(WITHOUT_MMCV) + textwrap.dedent(code), tmp_path)
    assert result.returncode == 0, result.stderr


def test_what_needs_mmcv_says_so(tmp_path):
    code = """
        from mmengine.registry import MODELS
        for name in ('AWFPN', 'Attend', 'TDConvNeXt', 'SSDHead', 'LearnToPayHead', 'NonLocal'):
            try:
                MODELS.build(dict(type=f'mmattn.{name}', in_channels=8))
            except ImportError as error:
                assert sentence in str(error), error
                assert name == 'NonLocal' or name in str(error), error
            else:
                raise AssertionError(name)
        try:
            MODELS.build(dict(type='mmattn.AWFPM'))
        except KeyError as error:
            assert "'mmattn.AWFPM' is not registered" in str(error), error
        try:
            from mmattn.necks import AWFPN
        except ImportError as error:
            assert sentence in str(error), error
        import mmattn
        mmattn.register_all_modules()
    """
    result = run(textwrap.dedent(WITHOUT_MMCV) + textwrap.dedent(code), tmp_path)
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
        require_host('mmdet')


def test_missing_host_gets_one_sentence(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(
        ImportError, match='mmdet is not installed; .* pip install onedl-mmdetection'
    ):
        require_host('mmdet')


def test_broken_host_gets_one_sentence(monkeypatch):
    def broken(name):
        raise AssertionError('MMCV==2.9 is used but incompatible')

    require_host = mmattn.require_host  # looked up by import_module itself
    monkeypatch.setattr('importlib.import_module', broken)
    with pytest.raises(ImportError, match='mmdet is installed but does not import .*MMCV==2.9'):
        require_host('mmdet')


def test_mmcv_without_its_compiled_part_gets_one_sentence(monkeypatch):
    def uncompiled(name):
        if name == 'mmcv.ops':
            raise ImportError("No module named 'mmcv._ext'")

    monkeypatch.setattr('importlib.import_module', uncompiled)
    with pytest.raises(ImportError, match=r'mmdet is installed but does not import .*mmcv\._ext'):
        require_host('mmdet')


def test_register_all_modules():
    mmattn.register_all_modules()
    from mmattn.registry import MODELS

    assert {'AWConv2d', 'AWFPN', 'CBAM', 'SE'} <= set(MODELS.module_dict)
