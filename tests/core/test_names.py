import pytest

from mmattn.core.names import closest, did_you_mean, distinct_names, listed, shorten

NAMES = ['CBAM', 'BAM', 'ECA', 'layer1.0', 'layer1.1', 'café']


@pytest.mark.parametrize(
    'word, expected',
    [
        pytest.param('cbam', ['CBAM', 'BAM'], id='case'),
        pytest.param('EAC', ['ECA'], id='swapped'),
        pytest.param('cafe\u0301', ['café'], id='unicode form'),
        pytest.param('layer1.2', ['layer1.1', 'layer1.0'], id='best first, ties as they sort'),
        pytest.param('xyz', [], id='nothing near'),
        pytest.param(3, [], id='no text'),
    ],
)
def test_closest(word, expected):
    assert closest(word, NAMES) == expected


def test_sure_takes_only_slips():
    assert closest('cat', ['bat'], sure=False) == ['bat']
    assert closest('cat', ['bat'], sure=True) == []
    assert closest('Balloon', ['ballon'], sure=True) == ['ballon']


def test_did_you_mean():
    assert did_you_mean('modle', ['model', 'mood']) == ", did you mean 'model'?"
    two = did_you_mean('modle', ['model', 'mood'], n=2, sep='; ', prefix='x.')
    assert two == "; did you mean 'x.model' or 'x.mood'?"
    assert did_you_mean('qqq', ['model']) == ''


def test_listed_shows_the_near_ones_first_and_counts_the_rest():
    assert (
        listed('ECAA', ['SE', 'CBAM', 'ECA', 'BAM'], limit=3) == "'ECA', 'SE', 'CBAM' and 1 more"
    )
    assert listed('x', []) == ''


@pytest.mark.parametrize(
    'number, expected',
    [(0, ''), (2, 'k0, k1'), (6, 'k0, k1, k2, k3, k4, k5'), (7, 'k5, ... (7 in all)')],
)
def test_long_lists_are_shortened(number, expected):
    assert shorten(f'k{i}' for i in range(number)).endswith(expected)


@pytest.mark.parametrize(
    'paths, expected',
    [
        pytest.param(['x/a.png', 'y/b.png'], ['a', 'b'], id='stems'),
        pytest.param(['a.png', 'a.jpg', 'b.png'], ['a.png', 'a.jpg', 'b'], id='suffixes'),
        pytest.param(['A.png', 'a.jpg'], ['A.png', 'a.jpg'], id='case'),
        pytest.param(['x/a.png', 'y/a.png'], ['x_a.png', 'y_a.png'], id='folders'),
        pytest.param(['x/z/a.png', 'y/z/a.png'], ['x_z_a.png', 'y_z_a.png'], id='deep folders'),
        pytest.param([], [], id='none'),
    ],
)
def test_distinct_names(paths, expected):
    assert distinct_names(paths) == expected
    assert len({name.casefold() for name in distinct_names(paths)}) == len(paths)
