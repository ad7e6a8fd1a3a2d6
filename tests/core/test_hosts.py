"""What a module says of a name whose framework is not there."""

import pytest

from mmattn.core.hosts import explain_missing


def test_a_missing_name_says_which_framework_it_needs():
    missing = ImportError('mmdet is not installed')
    look = explain_missing('mmattn.x', {'Part': 'mmdet', 'Other': 'mmcv'}, {'mmdet': missing})
    with pytest.raises(ImportError, match='^Part needs mmdet: mmdet is not installed$') as raised:
        look('Part')
    assert raised.value.__cause__ is missing
    for name in ('Other', 'Prt'):
        with pytest.raises(AttributeError, match=f"module 'mmattn.x' has no attribute '{name}'"):
            look(name)
