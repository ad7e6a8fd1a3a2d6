"""A diagonal of the matrix of methods and stock configs, and the page it becomes."""

import pytest

pytest.importorskip('mmdet')

from mmattn.insertion.compatibility import COLUMNS, FAILS
from mmattn.insertion.compatibility_table import page, run
from mmattn.insertion.stock import STOCK
from tests.commands import run_command

TOOL = 'analysis_tools/compatibility.py'


def stock(part):
    (found,) = (s for s in STOCK if part in s.config)
    pytest.importorskip(found.config.partition('::')[0])
    return found


@pytest.mark.parametrize(
    ('config', 'method'),
    [
        ('retinanet_r50_fpn_1x', 'SE'),
        ('yolof_r50-c5', 'ECA'),
        ('centernet_r18', 'NonLocal'),
        ('yolox_nano', 'AWFPN'),
        ('detr/detr_r50', 'TDAM'),
        ('pvtv2-b0', 'SSIA'),
        ('carafe', 'CBAM'),
        ('resnet18_8xb16_cifar10', 'AAConv2d'),
        ('efficientnet-b0', 'AWConv2d'),
        ('repvgg-A0', 'LearnToPayHead'),
    ],
)
def test_a_cell_works_and_is_not_tried_again(tmp_path, config, method):
    file, said = tmp_path / 'cells.jsonl', []
    (cell,) = run(file, [stock(config)], [method], show=said.append)
    assert cell.status == 'works', cell
    assert len(said) == 1
    assert run(file, [stock(config)], [method], show=said.append) == [cell]
    assert len(said) == 1
    assert stock(config).config.rpartition('/')[2].removesuffix('.py') in page([cell])


@pytest.mark.slow
@pytest.mark.parametrize('config', [s.config for s in STOCK])
def test_no_cell_fails(tmp_path, config):
    cells = run(tmp_path / 'cells.jsonl', [stock(config)])
    assert [cell for cell in cells if cell.status == FAILS] == []


def test_families_are_many():
    names = [s.config for s in STOCK]
    assert len(set(names)) == len(names)
    assert sum(name.startswith('mmdet::') for name in names) >= 45
    assert sum(name.startswith('mmpretrain::') for name in names) >= 6
    assert len(COLUMNS) >= 20


def test_an_unknown_config_is_one_sentence(capsys):
    assert run_command(TOOL, '--configs', 'nonsuch') == 1
    assert "--configs 'nonsuch' matches no config" in capsys.readouterr().err


def test_a_fault_of_the_framework_is_named(tmp_path):
    (cell,) = run(tmp_path / 'cells.jsonl', [stock('ssdlite')], ['ECA'], show=lambda line: None)
    assert cell.status == 'framework'
    assert 'SSDHead cannot predict since 3.2' in cell.note
    assert '1 work (1 of them in networks that have a fault' in page([cell])


def test_what_does_not_apply_says_why(tmp_path):
    methods = ['FcaNet', 'TDAM']
    cells = run(tmp_path / 'cells.jsonl', [stock('mobilenet-v2_8xb32')], methods)
    assert [cell.status for cell in cells] == ['not applicable'] * 2
    assert 'in_channels must be divisible by 16' in cells[0].note
    assert 'TDAM has twins of' in cells[1].note
