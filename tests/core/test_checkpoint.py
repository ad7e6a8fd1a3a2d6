"""What a checkpoint brought: counts, names and advice, on networks of a few numbers."""

import pytest
import torch
from torch import nn

from mmattn.convs import AAConv2d
from mmattn.core.checkpoint import LoadReport, LoadReportHook, compare


class Runner:
    """As much of mmengine's runner as the hook reads."""

    def __init__(self, model, name='some.pth'):
        self.model = model
        self._load_from = name


def net(*names, size=2):
    model = nn.Module()
    for name in names:
        model.register_parameter(name, nn.Parameter(torch.zeros(size)))
    return model


def test_the_four_kinds_of_keys():
    saved = {'a': torch.ones(2), 'b': torch.ones(3), 'd': torch.ones(1)}
    report = compare(net('a', 'b', 'c'), {'state_dict': saved, 'meta': {}})
    assert report.matched == ['a']
    assert report.mismatched == {'b': ((3,), (2,))}
    assert report.missing == ['c']
    assert report.unexpected == ['d']
    assert not report.fits
    assert report.summary() == (
        "1 of the model's 3 keys fit; new in the model: c; "
        'of another shape, not loaded: b (3,) -> (2,); unused: d'
    )


def test_comparing_changes_neither_side():
    model, saved = net('a'), {'module.a': torch.ones(2)}
    assert compare(model, saved).fits
    assert model.a.tolist() == [0, 0]
    assert list(saved) == ['module.a']


def test_what_a_module_cuts_when_it_loads_is_no_misfit():
    model = nn.Sequential(AAConv2d(3, 8, 3, padding=1, dk=4, dv=2, num_heads=2))
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)).state_dict()
    report = compare(model, plain)
    assert report.adapted == {
        '0.weight': ((8, 3, 3, 3), (6, 3, 3, 3)),
        '0.bias': ((8,), (6,)),
    }
    assert not report.mismatched
    assert not report.fits
    assert 'cut to fit: 0.weight (8, 3, 3, 3) -> (6, 3, 3, 3), 0.bias' in report.summary()
    assert len(plain['0.weight']) == 8  # comparing changed nothing
    assert compare(model, model.state_dict()).fits
    wrong = compare(model, nn.Sequential(nn.Conv2d(3, 9, 3)).state_dict())
    assert wrong.mismatched['0.bias'] == ((9,), (6,))
    assert not wrong.adapted


class Twice(nn.Module):
    """Has two numbers; a checkpoint of one of them gives both."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.zeros(2)) for _ in range(2))

    def adapt_checkpoint(self, state_dict, prefix):
        state_dict.setdefault(f'{prefix}two', state_dict[f'{prefix}one'])


def test_what_a_module_fills_when_it_loads_is_not_missing():
    report = compare(nn.Sequential(Twice(), nn.Linear(1, 1)), {'0.one': torch.ones(2)})
    assert report.adapted == {'0.two': (None, (2,))}
    assert report.missing == ['1.weight', '1.bias']
    assert 'filled from their neighbours: 0.two' in report.summary()


def test_batch_counters_on_one_side_only_do_not_matter():
    model = nn.Sequential(nn.BatchNorm1d(2))
    saved = {k: v for k, v in model.state_dict().items() if 'num_batches' not in k}
    assert compare(model, saved).fits
    assert compare(net('a'), {'a': torch.ones(2), 'n.num_batches_tracked': torch.ones(1)}).fits


def test_a_wrapped_model_is_looked_into():
    from mmengine.model import BaseTTAModel

    class Wrapper(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            raise NotImplementedError

    inner = net('a')
    inner.test_step = None
    assert compare(Wrapper(inner), {'a': torch.ones(2)}).fits


@pytest.mark.parametrize(
    'report, advice',
    [
        (LoadReport(), 'No key fits: is this the checkpoint of another network?'),
        (LoadReport(matched=['a'], unexpected=['b']), 'The config lacks parts the checkpoint'),
        (LoadReport(matched=['a'], missing=['b']), 'The checkpoint lacks parts the config has'),
        (LoadReport(matched=['a'], mismatched={'b': ((1,), (2,))}), 'Shapes differ: the config'),
        (LoadReport(matched=['a'], missing=['b'], unexpected=['c']), 'Use the config this'),
    ],
    ids=['nothing', 'unused', 'missing', 'shapes', 'both'],
)
def test_advice(report, advice):
    assert report.advice().startswith(advice)


def test_the_hook_refuses_what_does_not_fit_and_says_the_way_out():
    hook = LoadReportHook(partial=False, way_out='Try harder.')
    with pytest.raises(
        ValueError, match=r'some\.pth does not fit the config: 1 of .* unused: b\. .* Try harder\.'
    ):
        hook.after_load_checkpoint(
            Runner(net('a')), {'state_dict': {'a': torch.ones(2), 'b': torch.ones(2)}}
        )


def test_the_hook_lets_a_partial_start_through_but_not_a_start_from_nothing(capfd):
    hook = LoadReportHook(partial=True)
    hook.after_load_checkpoint(Runner(net('a', 'b')), {'a': torch.ones(2)})
    with pytest.raises(ValueError, match='No key fits: is this the checkpoint of another network'):
        hook.after_load_checkpoint(Runner(net('a')), {'z': torch.ones(2)})


@pytest.mark.parametrize('content', [{'epoch': 3}, {'state_dict': {}}, {'state_dict': [1]}])
def test_what_holds_no_weights_is_refused(content):
    with pytest.raises(ValueError, match='must hold a state dict of tensors, got a dict of: '):
        compare(net('a'), content)
