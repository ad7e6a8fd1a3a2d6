"""The wrapper: what it adds while a model trains, and that it leaves nothing behind."""

import copy
import io

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict, load_state_dict

from mmattn.auxiliary import SSIA
from mmattn.auxiliary.ssia import pool

from .models import OPTIONS, TOY, ToyClassifier, batch, build

NAMES = ('backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4')


def maps_of(plain, inputs):
    """The outputs of the four stages, graph kept."""
    maps = [inputs]
    for name in plain.backbone.res_layers:
        maps.append(getattr(plain.backbone, name)(maps[-1]))
    return maps[1:]


def hooks_of(model):
    return [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_it_is_the_wrapped_model():
    model, plain = build()
    assert isinstance(model, ToyClassifier)
    assert isinstance(model, SSIA)
    assert type(model).__name__ == 'SSIAToyClassifier'
    assert [name for name, _ in model.named_children()] == ['data_preprocessor', 'backbone',
                                                           'head', 'ssia']  # fmt: skip


@pytest.mark.parametrize('mode', ['tensor', 'predict'])
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_other_modes_are_the_plain_models_bit_for_bit(mode, training):
    model, plain = build()
    inputs, labels = batch(size=(40, 24))
    found = model.train(training)(inputs, labels, mode=mode)
    assert torch.equal(found, plain.train(training)(inputs, labels, mode=mode))


def test_losses_and_their_weights():
    """Each is loss_weight * lambda_n * lambda_s or c * loss of its maps; the model's own stay."""
    model, plain = build(loss_weight=0.3, lambdas=(2, 3, 5), lambda_s=0.5, lambda_c=4)
    inputs, labels = batch(size=(40, 48))  # not the sample's size
    found = model(inputs, labels, mode='loss')
    own = plain(inputs, labels, mode='loss')['loss']
    assert torch.equal(found.pop('loss'), own)
    plain.load_state_dict(model.state_dict())  # the running statistics moved
    maps = [m.detach() for m in maps_of(copy.deepcopy(plain), inputs)]
    expected = {}
    for number, weight in enumerate((2, 3, 5)):
        block = copy.deepcopy(model.ssia.blocks[number])
        block.weights = dict(spatial=0.5, channel=4)
        for name, loss in block(maps[number], maps[number + 1]).items():
            expected[f'loss_ssia_{number}_{name}'] = 0.3 * weight * loss
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


SCHEMES = {  # scheme: (low, high, side of the signal's grid); stages of 32 pixels: 16, 8, 4, 2
    'cascaded': [(0, 1, 8), (1, 2, 4), (2, 3, 2)],
    'final': [(0, 3, 8), (1, 3, 4), (2, 3, 2)],
    'identity': [(0, 0, 8), (1, 1, 4), (2, 2, 2)],
    ((0, 2), (1, 1), (2, 3)): [(0, 2, 4), (1, 1, 8), (2, 3, 2)],
}


@pytest.mark.parametrize('scheme', SCHEMES, ids=str)
def test_schemes(scheme):
    model, _ = build(scheme=scheme)
    expected = SCHEMES[scheme]
    assert model.ssia.pairs == [(NAMES[low], NAMES[high]) for low, high, _ in expected]
    for block, (low, _, side) in zip(model.ssia.blocks, expected):
        assert block.low_size == (16 >> low, 16 >> low)
        assert block.high_size == (side, side)
    inputs, labels = batch()
    losses = model(inputs, labels, mode='loss')
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_taps_by_name_are_those_by_number():
    by_number, _ = build()
    by_name, _ = build(taps=NAMES)
    inputs, labels = batch()
    first = by_number(inputs, labels, mode='loss')
    second = by_name(inputs, labels, mode='loss')
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def test_a_map_is_read_before_a_layer_in_place_changes_it():
    model, plain = build(taps=('backbone.layer1.bn', 'backbone.layer2.bn'))
    inputs, labels = batch()
    seen = {}
    for number, name in enumerate(('layer1', 'layer2')):
        bn = getattr(plain.backbone, name).bn
        bn.register_forward_hook(lambda m, i, out, n=number: seen.update({n: pool(out)}))
    plain(inputs)
    block = copy.deepcopy(model.ssia.blocks[0])
    expected = block.losses(seen[0], seen[1])
    found = model(inputs, labels, mode='loss')
    for name, value in expected.items():
        torch.testing.assert_close(found[f'loss_ssia_0_{name}'], 0.2 * value)


def test_the_gradient_reaches_the_low_map_and_not_the_high_one():
    model, _ = build(taps=(1, 2))
    inputs, labels = batch()
    losses = model(inputs, labels, mode='loss')
    del losses['loss']
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in model.backbone.named_parameters()}
    assert grads['layer1.conv.weight'].abs().max() > 0
    assert grads['layer2.bn.weight'].abs().max() > 0
    assert all(g is None for name, g in grads.items() if name.startswith(('layer3', 'layer4')))


def test_the_state_dict_is_the_plain_models():
    model, plain = build()
    wanted = list(plain.state_dict())
    assert list(model.state_dict()) == wanted
    assert list(get_state_dict(model)) == wanted
    assert list(model.state_dict(prefix='m.')) == [f'm.{key}' for key in wanted]
    # both ways, and the predictors stay what they are
    before = copy.deepcopy(model.ssia.state_dict())
    model.load_state_dict(plain.state_dict(), strict=True)
    load_state_dict(model, plain.state_dict(), strict=True)
    around = torch.nn.ModuleDict(dict(inner=model))
    around.load_state_dict(around.state_dict(), strict=True)
    assert len(before) > 20
    assert all(torch.equal(v, before[k]) for k, v in model.ssia.state_dict().items())
    broken = plain.state_dict()
    del broken['head.bias']
    with pytest.raises(RuntimeError, match='head.bias'):
        model.load_state_dict(broken, strict=True)


def test_no_hook_stays_even_after_an_error():
    model, _ = build()
    inputs, labels = batch()
    model(inputs, labels, mode='loss')
    assert not hooks_of(model)
    with pytest.raises(TypeError):
        model(inputs, 'wrong', mode='loss')
    assert not hooks_of(model)


@pytest.mark.parametrize('how', ['deepcopy', 'pickle'])
def test_copies_stand_on_their_own(how):
    model, _ = build()
    if how == 'deepcopy':
        other = copy.deepcopy(model)
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    inputs, labels = batch()
    with torch.no_grad():
        other.ssia.blocks[0].predictors['channel'][0].weight.zero_()
    changed, same = other(inputs, labels, mode='loss'), model(inputs, labels, mode='loss')
    assert changed['loss_ssia_0_channel'] != same['loss_ssia_0_channel']
    assert changed['loss_ssia_1_channel'] == same['loss_ssia_1_channel']
    assert list(other.state_dict()) == list(model.state_dict())


def test_ema_copy():
    model, plain = build()
    ema = ExponentialMovingAverage(model, momentum=0.5, update_buffers=True)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    ema.update_parameters(model)  # the first update copies
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    ema.update_parameters(model)
    assert not [key for key in ema.state_dict() if 'ssia' in key]
    torch.testing.assert_close(ema.module.head.weight, plain.head.weight + 1.5, rtol=0, atol=1e-6)
    inputs, labels = batch()
    assert torch.equal(ema(inputs, mode='tensor'), ema.module(inputs, labels, mode='tensor'))


def gradients(model, inputs, labels):
    model.zero_grad()
    losses = model(inputs, labels, mode='loss')
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


def test_checkpointed_blocks():
    """A checkpointed block runs twice a step, and the second run adds nothing."""
    model, _ = build()
    saving, _ = build(dict(TOY, with_cp=True))
    saving.load_state_dict(model.state_dict())
    saving.ssia.load_state_dict(model.ssia.state_dict())
    inputs, labels = batch()
    inputs.requires_grad_()  # the old form of checkpointing needs an input with gradient
    losses, grads = gradients(model, inputs, labels)
    losses_cp, grads_cp = gradients(saving, inputs, labels)
    for name in losses:
        torch.testing.assert_close(losses_cp[name], losses[name], msg=name)
    for name in grads:
        torch.testing.assert_close(grads_cp[name], grads[name], msg=name)
    assert int(saving.ssia.iteration) == 1


def test_a_tap_that_cannot_learn_is_refused():
    model, _ = build(dict(TOY, with_cp=True), taps=('backbone.layer1.bn', 'backbone.layer2'))
    inputs, labels = batch()
    with pytest.raises(ValueError, match=r"tap 'backbone.layer1.bn' gets no gradient.*with_cp"):
        model(inputs.requires_grad_(), labels, mode='loss')
    model, _ = build()
    model.backbone.layer1.requires_grad_(False)
    with pytest.raises(ValueError, match="tap 'backbone.layer1' gets no gradient.*frozen_stages"):
        model(inputs.detach(), labels, mode='loss')
    with torch.no_grad():  # nothing learns here anyway
        assert len(model(inputs, labels, mode='loss')) == 7


def test_during_warmup_only_the_predictors_learn():
    """Step by step: the backbone's gradient is its own losses' until the warm-up is over."""
    model, plain = build(warmup=2)
    always, _ = build()
    inputs, labels = batch()
    for step in range(4):
        losses, grads = gradients(model, inputs, labels)
        same_losses, same_grads = gradients(always, inputs, labels)
        plain.zero_grad()
        plain(inputs, labels, mode='loss')['loss'].backward()
        for name, value in losses.items():
            assert torch.equal(value, same_losses[name]), (step, name)
        for name, grad in grads.items():
            if name.startswith('ssia') or step >= 2:
                assert torch.equal(grad, same_grads[name]), (step, name)
            else:
                own = plain.get_parameter(name).grad
                torch.testing.assert_close(grad, own, msg=f'{step} {name}')
                reached = name.startswith('backbone') and 'layer4' not in name
                assert not reached or not torch.equal(grad, same_grads[name]), (step, name)
    assert int(model.ssia.state_dict()['iteration']) == 4


def test_an_endless_loss_in_the_warmup_does_not_reach_the_backbone():
    model, _ = build(warmup=1)
    inputs, labels = batch()
    with torch.no_grad():
        model.ssia.blocks[0].predictors['channel'][3].weight.fill_(float('inf'))
    _, grads = gradients(model, inputs, labels)
    assert all(g.isfinite().all() for name, g in grads.items() if 'ssia' not in name)


def test_only_training_counts_for_the_warmup():
    model, _ = build(warmup=2)
    inputs, labels = batch()
    for mode in (False, True, False):
        model.train(mode)(inputs, labels, mode='loss')
    assert int(model.ssia.iteration) == 1


def test_bfloat16():
    model, _ = build()
    inputs, labels = batch()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(inputs, labels, mode='loss')
    assert {v.dtype for k, v in losses.items() if 'ssia' in k} == {torch.float32}
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_gradient_accumulation():
    """Two batches with accumulative_counts=2: one step with the mean of both gradients."""
    model, _ = build()
    alone = copy.deepcopy(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 2)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for seed in (0, 1):
        inputs, labels = batch(seed=seed)
        for name, grad in gradients(alone, inputs, labels)[1].items():
            total[name] += grad / 2
        model.train_step(dict(inputs=inputs, data_samples=labels), wrapper)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), start[name] - 0.1 * total[name], msg=name)


def test_the_runners_preprocessor_goes_to_the_wrapped_model():
    given = dict(type='ImgDataPreprocessor', mean=[1.0], std=[2.0])
    model = MODELS.build(dict(OPTIONS, model=TOY, data_preprocessor=given))
    assert model.data_preprocessor.mean.item() == 1
    own = dict(TOY, data_preprocessor=dict(given, mean=[3.0]))
    model = MODELS.build(dict(OPTIONS, model=own, data_preprocessor=given))
    assert model.data_preprocessor.mean.item() == 3


def test_the_rules_of_a_model_do_not_reach_the_predictors():
    """A top-level init_cfg, with the layers that the predictors have."""
    rule = dict(type='Constant', layer=['Linear', 'BatchNorm1d', 'Conv2d'], val=7.0, bias=7.0)
    model, _ = build(dict(TOY, init_cfg=rule))
    model.init_weights()
    assert torch.equal(model.head.weight, torch.full_like(model.head.weight, 7.0))
    assert len(list(model.ssia.parameters())) == 36
    for name, parameter in model.ssia.named_parameters():
        assert parameter.abs().max() <= 1, name
        is_norm = name.split('.')[4] == '1'
        assert is_norm == (parameter.std() == 0), name


def test_the_trial_run_leaves_no_trace():
    model, _ = build()
    assert model.training
    assert int(model.backbone.layer1.bn.num_batches_tracked) == 0
    assert int(model.ssia.iteration) == 0


@pytest.mark.parametrize(
    'options, error, words',
    [
        (dict(taps=(0, 4)), ValueError, 'taps of ToyClassifier must be 0 to 3, got 4'),
        (dict(taps=(-1, 2)), ValueError, 'taps of ToyClassifier must be 0 to 3, got -1'),
        (
            dict(taps=('backbone.layer1', 'backbone.layr2')),
            ValueError,
            "taps must name modules of ToyClassifier, got 'backbone.layr2'; there are "
            "'backbone.layer2'",
        ),
        (dict(taps=(2, 1)), ValueError, r"taps must go from low to high, got \['backbone.layer3'"),
        (dict(taps=(1,)), ValueError, r'taps must be two or more different ones, got \[1\]'),
        (dict(taps=(1, 1)), ValueError, r'taps must be two or more different ones, got \[1, 1\]'),
        (dict(taps=(1, 'head')), ValueError, "taps must run in the backbone or neck, 'head' does"),
        (dict(taps=(1, 'data_preprocessor')), ValueError, "'data_preprocessor' does not"),
        (dict(scheme='low'), ValueError, "scheme must be one of .*'cascaded'.*got 'low'"),
        (dict(scheme=[(2, 1)]), ValueError, r'scheme must give pairs .*got \(2, 1\) reversed'),
        (dict(scheme=[(0, 7)]), ValueError, r'scheme must hold pairs of the taps .*got \(0, 7\)'),
        (dict(scheme=[]), ValueError, 'scheme must hold at least one pair'),
        (dict(loss_weight=-0.1), ValueError, 'loss_weight must be >= 0, got -0.1'),
        (dict(loss_weight=float('nan')), ValueError, 'loss_weight must be >= 0, got nan'),
        (
            dict(eta=0.5),
            TypeError,
            r'eta is the threshold .* 0.5, .*thresholds=\(0.5, 10\); .*loss_weight, got eta=0.5',
        ),
        (dict(lambdas=(1, float('nan'), 3)), ValueError, 'lambdas must be >= 0, got nan'),
        (dict(lambdas=(1, -2, 3)), ValueError, 'lambdas must be >= 0, got -2'),
        (dict(lambdas=(1, 2)), ValueError, 'lambdas must have one weight for each of 3 blocks'),
        (dict(lambda_s=-1), ValueError, 'lambda_s must be >= 0, got -1'),
        (dict(warmup=-1), ValueError, 'warmup must be >= 0, got -1'),
        (
            dict(lamda_s=1),
            TypeError,
            "its own options only, got 'lamda_s', did you mean 'lambda_s'",
        ),
        (dict(backbone={}), TypeError, "got 'backbone'; .* wrapped=TYPE instead, or _delete_"),
        (dict(wrapped='ToyClassifier'), TypeError, 'SSIA needs model .* or wrapped .*, got both'),
        (dict(model=None), TypeError, 'SSIA needs model .* or wrapped .*, got none'),
        (
            dict(model=None, wrapped=TOY),
            TypeError,
            r'wrapped must be a string or a class .* got \{',
        ),
        (dict(taps=3), TypeError, 'taps must be a list of integers or strings, got 3'),
        (
            dict(taps='backbone'),
            TypeError,
            "taps must be a list of integers or strings, got 'backbone'",
        ),
        (dict(sample=224), TypeError, 'sample must be three integers, got 224'),
        (dict(sample=(5, 8, 8)), ValueError, r'ToyClassifier can take, got \(5, 8, 8\): Given'),
        (dict(model='ResNet'), TypeError, "model must be a dict or None, got 'ResNet'"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        MODELS.build({**OPTIONS, 'model': TOY, **options})
