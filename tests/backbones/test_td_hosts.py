"""Each top-down network works without the host that it does not need."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    'absent, there, missing',
    [('mmpretrain', 'TDResNet', 'TDConvNeXt'), ('mmdet', 'TDMobileNetV3', 'TDResNet')],
)
def test_one_host_is_enough(absent, there, missing, tmp_path):
    pytest.importorskip('mmpretrain' if absent == 'mmdet' else 'mmdet')
    code = f"""
import sys
sys.modules['{absent}'] = None
from mmattn.backbones import {there}
from mmattn.registry import MODELS
assert MODELS.get('{there}') is {there}
try:
    from mmattn.backbones import {missing}
except ImportError as error:
    assert '{missing} needs {absent}: {absent} is not installed' in str(error), error
else:
    raise AssertionError('{missing} is there')
"""
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={'PYTHONPATH': ':'.join(sys.path), 'PATH': ''},
    )
    assert result.returncode == 0, result.stderr[-2000:]
