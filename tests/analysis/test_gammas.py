"""The learned scalars of a checkpoint, and the tool that lists them."""

import pytest
import torch
from torch import nn

from mmattn.analysis.gammas import gammas_of
from mmattn.layers import CBAM, SE
from tests.commands import printed_by, run_command

TOOL = 'analysis_tools/gammas.py'


@pytest.fixture
def net():
    net = nn.Sequential(SE(8, init='identity'), CBAM(8, init='identity'), SE(8))
    net[0].gamma.data.fill_(0.5)
    net.scale = nn.Module()
    net.scale.gamma = nn.Parameter(torch.ones(8))  # a layer scale
    return net


def test_every_gamma_by_its_module(net):
    assert gammas_of(net) == {'0': 0.5, '1': 0.0}
    assert gammas_of(net.state_dict()) == gammas_of(net)
    assert gammas_of(net[2]) == {}


def test_the_tool(net, tmp_path, capsys):
    files = [str(tmp_path / f'{i}.pth') for i in range(2)]
    torch.save(dict(state_dict=net.state_dict()), files[0])
    net[0].gamma.data.fill_(-0.25)
    torch.save(dict(state_dict=net.state_dict()), files[1])
    assert printed_by(TOOL, *files).splitlines() == [
        '0   +0.5000   -0.2500',
        '1   +0.0000   +0.0000',
        '2 gammas, 1 of them below 0.01 (hardly used)',
    ]
    torch.save(dict(state_dict=net[2].state_dict()), files[0])
    assert run_command(TOOL, files[0]) == 1
    assert 'holds no gamma' in capsys.readouterr().err
