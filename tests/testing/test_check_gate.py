"""check_gate: it finds what is wrong with a method and says so in one sentence."""

import pytest
import torch
from torch import nn

import mmattn
from mmattn import Gate, ScalingGate
from mmattn.testing import CHECKS, check_gate

# what needs another package is tested with the methods of mmattn
QUICK = {demand for demand in CHECKS if 'ResNet' not in demand and 'ONNX' not in demand}
SKIPPED = set(CHECKS) - QUICK


class Good(ScalingGate):
    """A channel gate with a norm: ``x * sigmoid(BN(W x))``."""

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(init)
        self.conv = nn.Conv2d(in_channels, in_channels, 1)
        self.init_weights()

    def factor(self, x):
        return self.conv(x.mean((2, 3), keepdim=True)).sigmoid()


class Pooled(Good):
    def forward(self, x):
        return super().forward(x)[:, :, ::2]


class Widened(Good):
    def forward(self, x):
        return super().forward(x).float()


class Mixing(Good):
    def factor(self, x):
        return super().factor(x.mean(0, keepdim=True)).expand(len(x), -1, -1, -1)


class Constant(Good):
    def factor(self, x):
        return super().factor(torch.ones_like(x))

    def forward(self, x):
        return super().forward(torch.ones_like(x)) + 0 * x


class Idle(Good):
    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(in_channels, init)
        self.unused = nn.Parameter(torch.ones(3))


class Dead(Good):
    """Its second layer is multiplied by a zero that cannot move."""

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(in_channels, init)
        self.second = nn.Parameter(torch.ones(()))

    def init_weights(self):
        super().init_weights()
        if hasattr(self, 'second'):
            nn.init.ones_(self.second)

    def factor(self, x):
        return super().factor(x) + 0 * self.second


class Explodes(Good):
    def factor(self, x):
        return super().factor(x) / x.var((2, 3), keepdim=True)


class NeverIdentity(Gate):
    """Takes ``init`` and then forgets the blend."""

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(init)
        self.conv = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        out = self.conv(x)
        return out if self.gamma is None else out * (1 + self.gamma)


class LateInit(Good):
    """Sets a special value in its constructor alone, where a detector overwrites it."""

    def __init__(self, in_channels: int, init: str = 'paper') -> None:
        super().__init__(in_channels, init)
        nn.init.zeros_(self.conv.bias)


class WrongBackward(Good):
    def factor(self, x):
        out = super().factor(x)
        return out.detach() + 2 * (out - out.detach())


class Frozen(Good):
    """Python's own numbers in a recorded graph: right for one size only."""

    def factor(self, x):
        return super().factor(x) * float(x.shape[2])


@pytest.mark.parametrize(
    'cls, found',
    [
        (Pooled, r'Pooled must train on a non-square map: the output must be \(2, 8, 4, 6\), got'),
        (Widened, r'Widened must keep float64: the output must be torch.float64, got torch.flo'),
        (Mixing, r'Mixing must treat the images of a batch apart: '),
        (Constant, r'Constant must react to its input: two different inputs must give two'),
        (Idle, r'Idle must train on a non-square map: unused must take part in the output'),
        (Dead, r"Dead must let every parameter learn: with init='paper' .*\['second'\]; expected"),
        (Explodes, r'Explodes must train on one position: the output must be finite'),
        (NeverIdentity, r"NeverIdentity must start as a no-op with init='identity': "),
        (LateInit, r'LateInit must set in init_weights what its constructor sets: '),
        (WrongBackward, r'WrongBackward must have right gradients: autograd and numerical'),
        (Frozen, r'Frozen must be traced for any size: '),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else '',
)
def test_what_is_wrong_is_named(cls, found):
    with pytest.raises(AssertionError, match=found):
        check_gate(cls, channels=8, except_for=SKIPPED)


def test_a_good_gate_meets_every_demand():
    assert set(check_gate(Good, channels=8)) == set(CHECKS)


def test_demands_left_out_and_parameters_without_gradient():
    met = check_gate(Dead, channels=8, except_for=SKIPPED, no_gradient=['second'])
    assert set(met) == QUICK
    rest = QUICK - {'be copied'}
    assert set(check_gate(Good, channels=8, except_for={*SKIPPED, 'be copied'})) == rest


def test_bad_arguments():
    with pytest.raises(TypeError, match='cls must be a class of torch modules, got Good'):
        check_gate(Good(8))
    with pytest.raises(ValueError, match=r"except_for must name demands of .*, got 'be good'"):
        check_gate(Good, except_for=['be good'])


def test_public_names():
    assert {'Gate', 'ScalingGate', 'testing'} <= {*dir(mmattn), *mmattn.__all__}
    assert mmattn.testing.check_gate is check_gate
