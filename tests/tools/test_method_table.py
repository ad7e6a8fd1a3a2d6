"""The tables of methods are what their command prints, and no method is left out."""

import json
import re
from pathlib import Path

import pytest

import mmattn
from mmattn.analysis.method_table import measured, read_methods
from mmattn.layers._gate import Gate
from mmattn.registry import MODELS
from tests.commands import printed_by

ROOT = Path(__file__).parents[2]
TOOL = 'analysis_tools/method_table.py'
METHODS = read_methods()


def test_the_readme_holds_what_the_command_prints():
    assert printed_by(TOOL) in (ROOT / 'README.md').read_text()


def test_the_page_of_methods_holds_what_the_command_prints():
    pytest.importorskip('mmpretrain', reason="a classifier's head is a row")
    assert printed_by(TOOL, '--costs') in (ROOT / 'docs/methods.md').read_text()


@pytest.mark.parametrize('method', [m for m in METHODS if m.measured], ids=lambda m: m.name)
def test_what_is_called_measured_stands_on_its_page(method):
    page = (ROOT / re.search(r'\((.+?)\)', method.measured)[1]).read_text()
    figures = re.findall(r'\d+\.\d+', method.measured)
    assert figures
    assert not [figure for figure in figures if figure not in page]


def test_finished_studies_are_quoted(tmp_path):
    def write(name, missing, *rows):
        folder = tmp_path / 'docs/studies' / name
        folder.mkdir(parents=True)
        text = json.dumps(dict(missing=missing, figure='AP', rows=rows))
        (folder / 'study.json').write_text(text)

    def row(asked, **gain):
        return dict(asked=asked, figures=dict(AP=dict(mean=30.0, **gain)))

    gain = dict(difference=-0.96, low=-2.04, high=0.5, verdict='no difference')
    write('blood', 0, row(''), row('CBAM', **gain), row('TDAM', **gain), row('SE'))
    write('half', 3, row('CBAM', **gain), row('ECA', **gain))
    write('next', 0, row('CBAM', **gain))
    said = {m.name: measured(m, tmp_path) for m in METHODS}
    each = '[{0}](docs/studies/{0}/study.md) AP -1.0 (-2.0 to +0.5): no difference'
    assert said['CBAM'] == f'{each.format("blood")}; {each.format("next")}'
    assert said['TDResNet'] == each.format('blood')
    assert said['SE'] == said['ECA'] == 'no'
    assert said['AWFPN'].startswith('[BCCD](docs/bccd.md)')


def test_what_a_method_does_is_eight_words():
    assert not [method.name for method in METHODS if len(method.words.split()) > 8]


def test_every_gate_and_conv_has_a_row():
    mmattn.register_all_modules()
    parts = {'PositionAttention', 'ChannelAttention', 'SpatialGate'}  # halves of a row's method
    wanted = {name for name, kind in MODELS.module_dict.items() if issubclass(kind, Gate)} - parts
    wanted |= {'AWConv2d', 'AAConv2d', 'AWFPN', 'LearnToPayHead', 'TDResNet', 'SSIA'}
    assert wanted == {method.name for method in METHODS}
