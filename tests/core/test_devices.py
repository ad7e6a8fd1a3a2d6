"""The device that a user names."""

import pytest
import torch

from mmattn.core.devices import choose_device


@pytest.mark.parametrize('named', ['cpu', torch.device('cpu')])
def test_what_is_there(named):
    assert choose_device(named) == torch.device('cpu')


def test_without_a_name():
    expected = 'cuda' if torch.cuda.is_available() else 'cpu'
    assert choose_device().type == choose_device(expected).type == expected


@pytest.mark.parametrize(
    ('named', 'kind', 'message'),
    [
        ('tpu9', ValueError, "device: 'tpu9' is not known to torch"),
        ('cuda:99', ValueError, 'device: cuda:99 is not there; use cpu'),
        ('xla', ValueError, 'device: xla is not there; use cpu'),
        ('meta', ValueError, 'device: meta holds no values; use cpu or cuda'),
        (0.5, TypeError, 'device must be a name or a torch.device, got 0.5'),
    ],
)
def test_what_is_not(named, kind, message):
    with pytest.raises(kind, match=message):
        choose_device(named)
