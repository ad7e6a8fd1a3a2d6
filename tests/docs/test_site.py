"""How the site is made of the project's Markdown; tests/browser looks at the result."""

import importlib
import re
import sys

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'docs'))
    yield
    for name in [name for name in sys.modules if name.split('.')[0] == 'docsite']:
        sys.modules.pop(name)


@pytest.fixture
def methods():
    pytest.importorskip('mmpretrain', reason='every method is registered with it')
    return importlib.import_module('docsite.methods').method_pages(ROOT)


def part(name):
    return importlib.import_module(f'docsite.{name}')


def test_every_method_has_a_page_with_all_there_is_to_know(methods):
    from mmattn.analysis.method_table import read_methods

    assert len(methods) == len(read_methods())
    for name, text in methods.items():
        for heading in (
            'What it computes',
            'Where it sits',
            'In one line',
            'Cost',
            'Config',
            'Accuracy',
        ):
            assert f'## {heading}\n' in text, name
        assert re.search(r'^\+[\d,]+ parameters and \+[\d.]+ GMACs', text, re.MULTILINE), name
        assert 'role="img" aria-label="' in text, name


def test_a_formula_is_that_of_the_docstring(methods):
    assert '`out = x * sigmoid(W2 ReLU(W1 gap(x)))`' in methods['se']
    for name, text in methods.items():
        assert re.search(r'## What it computes\n\n`.+ = .+`', text), name
    both = methods['sequence-eca-spatial']
    assert '`out = g_k(... g_1(x))`:' in both
    assert both.index('conv1d_k') < both.index('conv7x7') < both.index('Where it sits')


def test_the_lines_start_as_a_no_op_with_a_norm_that_trains(methods):
    for name in ('cbam', 'awconv2d', 'awfpn', 'tdresnet'):
        assert "init='identity'" in line(methods[name]), name
    for name in ('awconv2d', 'awfpn'):
        assert "norm='GN'" in line(methods[name]), name


@pytest.mark.slow
def test_the_line_of_every_method_runs(methods):
    for name, text in methods.items():
        names = {}
        exec(line(text), names)
        assert names['cfg'].mmattn.places or name == 'ssia', name


def line(text):
    return re.search(r'```python\n(import mmattn\n.+?)```', text, re.DOTALL)[1]


@pytest.mark.parametrize(
    'link, wanted',
    [
        ('[x](install.md#mim)', '[x](../install.md#mim)'),
        ('[x](notebooks/first_detector.ipynb)', '[x](../notebooks/first_detector.md)'),
        ('[x](../CHANGELOG.md)', '[x](../changelog.md)'),
        ('[x](../README.md#methods)', '[x](../methods.md)'),
        ('[x](../README.md)', '[x](../index.md)'),
        ('[x](../configs/tdam/README.md)', '[x](../configs/tdam.md)'),
        ('[x](../configs/tdam)', '[x](../configs/tdam.md)'),
        ('[x](../configs)', '[x](../index.md)'),
        ('[x](../requirements/hosts.txt)', '[x](../files/requirements/hosts.txt)'),
        ('[x](https://arxiv.org/abs/1)', '[x](https://arxiv.org/abs/1)'),
        ('[x](#here)', '[x](#here)'),
    ],
)
def test_links_come_along(tmp_path, link, wanted):
    pages = part('pages')
    (tmp_path / 'deep').mkdir()
    found = pages.bring_links(
        ROOT,
        ROOT / 'docs' / 'page.md',
        pages.Path('deep/page.md'),
        pages.find_pages(ROOT),
        tmp_path,
        link,
    )
    assert found == wanted
    if 'files' in wanted:
        assert (tmp_path / 'files/requirements/hosts.txt').is_file()


def test_a_page_that_nobody_listed_is_in_the_sidebar_too():
    sections = part('pages').sections(['index', 'install', 'new_page', 'methods/se', 'configs/x'])
    assert sections['Get started'] == ['install']
    assert sections['Reproduce'] == ['configs/x']
    assert sections['More'] == ['new_page']
    assert 'methods/se' not in sum(sections.values(), [])


def test_a_drawing_marks_the_place():
    drawings = part('drawings')
    row = drawings.network('C4 & C5', inside=('C4', 'C5'))
    assert row.count('class="mark"') == 2
    assert 'aria-label="C4 &amp; C5"' in row
    block = drawings.block('b', feedback=True)
    (arrow,) = (float(y) for y in re.findall(r'V(\d+) H114', block))  # to the input of conv3
    tops = [float(y) for y in re.findall(r'<rect x="10" y="(\d+)"', block)]
    assert sum(top < arrow for top in tops) == 3 and not any(t <= arrow <= t + 26 for t in tops)
    assert drawings.block('b', position='branch').index('1x1 conv3') < drawings.block(
        'b', position='branch'
    ).index('the gate')
