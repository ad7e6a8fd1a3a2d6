"""What a checkpoint brings: counts, names and advice, on networks of a few parameters."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mmattn.convs import AAConv2d
from mmattn.core.checkpoint import (
    LoadReport,
    LoadReportHook,
    bad_weights,
    check_pretrained,
    compare,
    load_weights,
)
from mmattn.layers import SE


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
        "1 of the model's 3 keys fit; missing in the checkpoint: c; "
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
    """Has two parameters; a checkpoint of one of them gives both."""

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


def fit(**others):
    return LoadReport(matched=['a'], useful=True, **others)


@pytest.mark.parametrize(
    'report, advice',
    [
        (LoadReport(), 'No key fits: is this the checkpoint of another network?'),
        (LoadReport(matched=['a']), 'Hardly any key fits: is this the checkpoint'),
        (LoadReport(would_fit='backbone.'), "Its keys would fit without 'backbone.' in front."),
        (LoadReport(belongs_to='backbone'), "It has the keys of 'backbone' alone."),
        (fit(unexpected=['b']), 'The config lacks parts the checkpoint'),
        (fit(missing=['b']), 'The checkpoint lacks parts the config has'),
        (fit(mismatched={'b': ((1,), (2,))}), 'Shapes differ: the config'),
        (fit(missing=['b'], unexpected=['c']), 'Use the config this'),
    ],
    ids=['nothing', 'accident', 'prefix', 'part', 'unused', 'missing', 'shapes', 'both'],
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


# ------------------------------------------------------------------------------------ prefixes


def classifier():
    torch.manual_seed(0)
    net = nn.Module()
    net.conv1 = nn.Conv2d(3, 2, 1)
    net.bn1 = nn.BatchNorm2d(2)
    net.fc = nn.Linear(2, 3)
    return net


def with_prefix(prefix, state):
    return {prefix + key: torch.full_like(value, 7) for key, value in state.items()}


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: {'state_dict': state},
        lambda state: {'net': state, 'epoch': 3},
        lambda state: {'model_state_dict': state, 'lr': torch.tensor(0.1)},
        lambda state: {'whatever': state, 'optimizer': {'lr': 0.1}},
        lambda state: {'model': {'state_dict': state}},
        lambda state: with_prefix('module.', state),
        lambda state: with_prefix('_orig_mod.', state),
        lambda state: with_prefix('module._orig_mod.', state),
        lambda state: {'state_dict': with_prefix('model.', state), 'hyper_parameters': {'lr': 1}},
        lambda state: {'state_dict': {**with_prefix('model.', state), 'loss.w': torch.ones(4)}},
        lambda state: {'state_dict': with_prefix('student.net.', state)},
    ],
    ids=[
        *('plain', 'mmengine', 'net', 'model_state_dict', 'any name', 'nested'),
        *('data parallel', 'compiled', 'both', 'Lightning', 'Lightning with more', 'any prefix'),
    ],
)
def test_weights_are_found_and_loaded_whoever_saved_them(wrap):
    net = classifier()
    state = {key: torch.full_like(value, 7) for key, value in net.state_dict().items()}
    report = load_weights(net, wrap(state))
    assert len(report.matched) == 9
    assert all((value == 7).all() for value in net.state_dict().values())


def test_a_misfit_names_the_keys_of_both_sides():
    state = {'a.b.weight': torch.ones(5), 'a.c.weight': torch.ones(6)}
    with pytest.raises(
        ValueError,
        match=r'x\.pth does not fit the model: 0 of .* missing in the checkpoint: conv1\.weight, '
        r'.*unused: a\.b\.weight, a\.c\.weight\. No key fits',
    ):
        load_weights(classifier(), state, 'x.pth')


def test_a_prefix_that_explains_only_some_keys_is_named_and_left():
    state = with_prefix('backbone.', classifier().state_dict())
    state = {key: value for key, value in state.items() if 'fc' not in key}
    net = classifier()
    with pytest.raises(ValueError, match=r"would fit without 'backbone\.' in front"):
        load_weights(net, {**state, 'head.fc.weight': torch.ones(9, 9)})
    assert (net.conv1.weight != 7).all()


def test_a_part_is_named_whose_keys_a_checkpoint_has():
    detector = nn.Module()
    detector.backbone = classifier()
    with pytest.raises(ValueError, match="It has the keys of 'backbone' alone"):
        load_weights(detector, classifier().state_dict())


def test_one_key_that_fits_by_accident_is_not_useful():
    big = nn.Module()
    big.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(30))
    state = {f'blocks.{i}.weight': torch.ones(3, 3) for i in range(40)}
    report = compare(big, {**state, 'layers.0.bias': torch.ones(1)})
    assert report.matched == ['layers.0.bias'] and not report.useful


def test_keys_of_added_parts_are_new_and_others_missing():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), SE(4, reduction=2), nn.Conv2d(4, 2, 1))
    plain = {'0.weight': torch.ones(4, 3, 1, 1), '0.bias': torch.ones(4)}
    report = compare(net, plain)
    assert report.new == [f'1.fc{i}.{kind}' for i in (1, 2) for kind in ('weight', 'bias')]
    assert report.missing == ['2.weight', '2.bias']
    assert 'new in the model: 1.fc1.weight' in report.summary()
    assert 'missing in the checkpoint: 2.weight, 2.bias' in report.summary()


def test_the_hook_hands_the_runner_keys_that_fit():
    checkpoint = {'state_dict': {'module.a': torch.ones(2)}, 'meta': {}}
    checkpoint['state_dict'] = with_prefix('_orig_mod.', {'a': torch.ones(2)})
    LoadReportHook(partial=False).after_load_checkpoint(Runner(net('a')), checkpoint)
    assert list(checkpoint['state_dict']) == ['a']


# ---------------------------------------------------------------------------------- bad weights


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_of_a_diverged_training_are_refused(value):
    net = classifier()
    net.bn1.running_var[1] = value
    net.fc.weight.data[0, 0] = value
    net.register_buffer('mask', torch.tensor(-float('inf')))  # a constant may be infinite
    assert bad_weights(net) == ['bn1.running_var', 'fc.weight']
    with pytest.raises(
        ValueError, match=r'some\.pth holds NaN or infinity in 2 tensors \(bn1\.running_var, fc'
    ):
        LoadReportHook(partial=True).after_load_checkpoint(Runner(classifier()), net.state_dict())


# ------------------------------------------------------------------------------------- init_cfg


class Part(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(3, 2, 1)
        self.bn1 = nn.BatchNorm2d(2)


class Detector(BaseModule):
    def __init__(self, **init_cfg):
        super().__init__()
        self.backbone = Part(dict(type='Pretrained', **init_cfg))
        self.head = nn.Linear(2, 2)


def saved_part(folder, prefix=''):
    state = {k: torch.full_like(v, 3) for k, v in Part().state_dict().items()}
    torch.save({'state_dict': with_prefix(prefix, state)}, folder / 'part.pth')
    return str(folder / 'part.pth')


def test_what_init_cfg_loads_is_reported(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmattn.core.checkpoint.report.print_log', lambda text, **_: said.append(text)
    )
    check_pretrained(Detector(checkpoint=saved_part(tmp_path)))
    check_pretrained(Detector(checkpoint=saved_part(tmp_path, 'backbone.'), prefix='backbone'))
    assert len(said) == 2
    for line in said:
        assert line.endswith("part.pth for backbone: 7 of the model's 7 keys fit")


@pytest.mark.parametrize(
    'prefix, options, match',
    [
        (
            'backbone.',
            {},
            r'init_cfg of backbone: nothing of \S+part\.pth would be loaded\. Its keys would fit '
            r"without 'backbone\.' in front: write init_cfg=dict\(type='Pretrained', "
            r"prefix='backbone\.', checkpoint='\S+part\.pth'\)\. 0 of the model's 6 keys",
        ),
        (
            'model.backbone.',
            dict(prefix='model'),
            r"write init_cfg=dict\(type='Pretrained', prefix='model\.backbone\.', checkpoint=",
        ),
        (
            '',
            dict(prefix='neck'),
            r"no key of \S+ begins with prefix='neck'; they begin with bn1, ",
        ),
        ('stem', {}, r'No key fits: is this the checkpoint of another network\? 0 of'),
    ],
    ids=['prefix lacks', 'prefix too short', 'wrong prefix', 'another network'],
)
def test_an_init_cfg_that_loads_nothing_is_refused(tmp_path, prefix, options, match):
    model = Detector(checkpoint=saved_part(tmp_path, prefix), **options)
    with pytest.raises(ValueError, match=match):
        check_pretrained(model)


def test_only_what_mmengine_loads_is_looked_at(tmp_path):
    whole = Detector(checkpoint='nowhere.pth')
    torch.save({k: torch.ones_like(v) for k, v in whole.state_dict().items()}, tmp_path / 'w.pth')
    whole.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth'))
    check_pretrained(whole)  # mmengine does not look into a part that it loads as a whole
    whole.init_cfg = None
    with pytest.raises(FileNotFoundError, match='the checkpoint nowhere.pth does not exist'):
        check_pretrained(whole)
