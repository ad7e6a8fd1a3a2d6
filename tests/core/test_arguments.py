"""The one check of constructor arguments: names, types, and what a framework says."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from mmattn.core.arguments import check_arguments, check_call


@check_arguments
class Plain:
    def __init__(
        self,
        width: int,
        share: float = 0.5,
        flag: bool = True,
        name: str | None = None,
        cfg: dict | None = None,
        size: int | tuple[int, int] = 3,
        stages: Sequence[int] = (),
        gates: Sequence[dict] = (),
        mode: Literal['a', 'b'] = 'a',
        fn: Callable | None = None,
        dtype: torch.dtype | None = None,
        free=None,
    ):
        self.width = width


@pytest.mark.parametrize(
    'options',
    [
        dict(width=3),
        dict(width=np.int64(3), share=1, flag=False, name='x'),
        dict(width=3, share=np.float32(0.5), size=(3, 5), stages=[1, 2], gates=[{}]),
        dict(width=3, size=[3, 5], mode='b', fn=len, dtype=torch.float32, free=object()),
        dict(width=3, cfg=dict(type='BN'), stages=(), free='any'),
        dict(width=3, cfg=dict(type=nn.ReLU)),
    ],
)
def test_what_the_annotations_allow(options):
    assert Plain(**options).width == options['width']


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(width='3'), "width must be an integer, got '3'"),
        (dict(width=True), 'width must be an integer, got True'),
        (dict(width=2.0), 'width must be an integer, got 2.0'),
        (dict(share='a'), "share must be a number, got 'a'"),
        (dict(share=False), 'share must be a number, got False'),
        (dict(flag='no'), "flag must be True or False, got 'no'"),
        (dict(flag=0), 'flag must be True or False, got 0'),
        (dict(name=3), 'name must be a string or None, got 3'),
        (dict(cfg='BN'), "cfg must be a dict or None, got 'BN'"),
        (dict(cfg=dict(type=3)), r"cfg\['type'\] must be a name, got 3"),
        (dict(size=(1, 2, 3)), r'size must be an integer or a pair of integers, got \(1, 2, 3\)'),
        (dict(size=('1', 2)), r"size must be an integer or a pair of integers, got \('1', 2\)"),
        (dict(stages='12'), "stages must be a list of integers, got '12'"),
        (dict(stages=[0, 'a']), r"stages\[1\] must be an integer, got 'a'"),
        (dict(gates=dict(type='SE')), r"gates must be a list of dicts, got \{'type': 'SE'\}"),
        (dict(gates=['SE']), r"gates\[0\] must be a dict, got 'SE'"),
        (dict(mode='c'), "mode must be one of 'a', 'b', got 'c'"),
        (dict(fn=3), 'fn must be a function or None, got 3'),
        (dict(dtype='half'), "dtype must be a torch.dtype or None, got 'half'"),
        (dict(widht=3), "Plain has no argument 'widht', did you mean 'width'"),
        (dict(zzz=3), "Plain has no argument 'zzz'; it has width, share, flag"),
    ],
)
def test_what_they_do_not(options, message):
    with pytest.raises(TypeError, match=message):
        Plain(**{'width': 3, **options})


def test_missing_and_doubled_arguments():
    with pytest.raises(TypeError, match='Plain needs width'):
        Plain()
    with pytest.raises(TypeError, match='Plain got width twice, by place and by name'):
        Plain(3, width=3)
    with pytest.raises(TypeError, match='Plain takes at most 12 arguments by place .*, got 13'):
        Plain(*range(13))


class Host:
    def __init__(
        self, depth, norm_cfg=None, with_cp=False, width: int = 8, filter_cfg: dict | None = None
    ):
        assert depth in (18, 50)
        if width > 100:
            raise MemoryError
        self.depth = depth
        self.width = width // (width - 7)


@check_arguments
class Ours(Host):
    def __init__(self, reduction: int = 2, **kwargs):
        super().__init__(**{'depth': 18, **kwargs})


def test_what_is_handed_on_is_checked_by_the_class_that_takes_it():
    assert Ours(width=9, depth=50).depth == 50
    with pytest.raises(TypeError, match="Ours has no argument 'dept', did you mean 'depth'"):
        Ours(dept=3)
    with pytest.raises(TypeError, match="width must be an integer, got '8'"):
        Ours(width='8')
    assert Ours(norm_cfg=nn.ReLU()).depth == 18  # frameworks take parts that are built as well
    with pytest.raises(TypeError, match='filter_cfg must be a dict or None, got ReLU'):
        Ours(filter_cfg=nn.ReLU())  # which is no part


def test_what_is_handed_on_by_place_too_is_that_of_the_class_that_takes_it():
    @check_arguments
    class Passing(Host):
        def __init__(self, *args, rule: str = 'a', **kwargs):
            super().__init__(*args, **kwargs)

    assert Passing(18).depth == Passing(depth=18, rule='b').depth == 18
    with pytest.raises(TypeError, match='Passing needs depth'):
        Passing(rule='b')
    with pytest.raises(TypeError, match="Passing has no argument 'dept', did you mean 'depth'"):
        Passing(18, dept=3)
    with pytest.raises(TypeError, match='Passing got depth twice, by place and by name'):
        Passing(18, depth=18)
    with pytest.raises(TypeError, match='Passing takes at most 5 arguments by place'):
        Passing(*range(6))

    @check_arguments
    class Chain(nn.Sequential):
        pass

    assert len(Chain(nn.ReLU(), nn.ReLU())) == 2


def test_an_argument_that_the_class_sets_itself():
    @check_arguments
    class Fixed(Host):
        def __init__(self, **kwargs):
            super().__init__(18, **kwargs)

    with pytest.raises(TypeError, match='Fixed sets depth itself, leave it out'):
        Fixed(depth=50)


def test_an_error_that_is_neither_a_value_nor_a_type_passes():
    with pytest.raises(MemoryError):
        Ours(width=101)


def test_what_a_framework_refuses_is_told_with_our_class():
    pytest.importorskip('mmdet')
    from mmattn.backbones import AttentionResNet

    with pytest.raises(
        ValueError,
        match=r'AttentionResNet cannot be built with these arguments \(mmdet: it demands '
        'num_stages >= 1 and num_stages <= 4',
    ):
        AttentionResNet(18, num_stages=7)
    with pytest.raises(KeyError, match=r'AttentionResNet cannot be built .*\(mmcv: Cannot find'):
        AttentionResNet(18, norm_cfg=dict(type='no such norm'))


def test_a_file_that_a_framework_misses_is_told_with_our_class(tmp_path):
    pytest.importorskip('mmpretrain')
    from mmattn.datasets.imagenet import ImageNetV2

    with pytest.raises(FileNotFoundError, match=r'ImageNetV2 cannot be built .*\(mm\w+: .*gone'):
        ImageNetV2(data_root=str(tmp_path / 'gone'))


class Unclosed(Host):
    pass


def test_classes_without_a_constructor_of_their_own():
    with pytest.raises(TypeError, match='Unclosed needs depth'):
        check_arguments(Unclosed)()
    assert Host(18).depth == 18  # the parent is left alone

    @check_arguments
    class Empty:
        pass

    assert isinstance(Empty(), Empty)
    with pytest.raises(TypeError, match="Empty has no argument 'x'"):
        Empty(x=1)


def test_a_class_of_a_framework_before_it_is_built():
    check_call(Host, dict(depth=3))
    with pytest.raises(TypeError, match='Host needs depth'):
        check_call(Host, dict(width=3))


def test_the_constructor_keeps_its_face_and_is_wrapped_once():
    import inspect

    assert list(inspect.signature(Plain).parameters)[:2] == ['width', 'share']
    once = Plain.__init__
    assert check_arguments(Plain).__init__ is once


def test_registered_classes_and_gates_from_outside_are_checked():
    from mmattn import ScalingGate
    from mmattn.registry import MODELS

    class Own(ScalingGate):
        def __init__(self, in_channels: int, init: str = 'paper'):
            super().__init__(init)

    with pytest.raises(TypeError, match="in_channels must be an integer, got '8'"):
        Own('8')
    with pytest.raises(TypeError, match="SE has no argument 'reductoin', did you mean 'reduction"):
        MODELS.build(dict(type='SE', in_channels=8, reductoin=4))
