"""The README's table of methods is what its command prints, and no method is left out."""

import importlib.util
import re
from pathlib import Path

import pytest

import mmattn
from mmattn.layers._gate import Gate
from mmattn.registry import MODELS

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location(
    'method_table', ROOT / 'tools/analysis_tools/method_table.py'
)
method_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(method_table)


def test_readme_holds_what_the_command_prints():
    assert method_table.table() in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize(
    'method', [m for m in method_table.METHODS if m.measured != 'no'], ids=lambda m: m.name
)
def test_what_is_called_measured_stands_on_its_page(method):
    page = (ROOT / re.search(r'\((.+?)\)', method.measured)[1]).read_text()
    figures = re.findall(r'\d+\.\d+', method.measured)
    assert figures
    assert not [figure for figure in figures if figure not in page]


def test_every_gate_and_conv_has_a_row():
    mmattn.register_all_modules()
    parts = {'PositionAttention', 'ChannelAttention', 'SpatialGate'}  # halves of a row's method
    wanted = {name for name, kind in MODELS.module_dict.items() if issubclass(kind, Gate)} - parts
    wanted |= {'AWConv2d', 'AAConv2d', 'AWFPN', 'LearnToPayHead', 'TDResNet', 'SSIA'}
    assert wanted == {method.name for method in method_table.METHODS}
