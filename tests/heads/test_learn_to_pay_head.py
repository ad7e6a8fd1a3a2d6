import pytest
import torch

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmattn.heads import LearnToPayHead
from mmattn.testing import randomise
from tests.reference.learn_to_pay import learn_to_pay_head
from tests.values import image


def maps(dtype=torch.float32):
    sizes = [(2, 3, 4, 5), (2, 6, 3, 3), (2, 6, 2, 3)]
    return tuple(image(*s, seed=i).to(dtype) for i, s in enumerate(sizes))


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('compatibility', ['learned', 'dot'])
def test_values(compatibility, training):
    head = LearnToPayHead(4, [3, 6, 6], compatibility=compatibility).double()
    randomise(head).train(training)
    feats = tuple(m.detach().requires_grad_() for m in maps(torch.float64))
    params = {k: v.detach().clone().requires_grad_() for k, v in head.state_dict().items()}
    out, expected = head(feats), learn_to_pay_head(feats, params)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    names = [name for name, _ in head.named_parameters()]
    found = torch.autograd.grad(out.square().sum(), [*feats, *head.parameters()])
    leaves = [*feats, *(params[name] for name in names)]
    wanted = torch.autograd.grad(expected.square().sum(), leaves)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_identity_start_is_the_linear_classifier():
    plain = MODELS.build(dict(type='LinearClsHead', num_classes=4, in_channels=6))
    head = LearnToPayHead(4, [3, 6, 6], init='identity')
    missing, unexpected = head.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and not any(key.startswith('fc.') for key in missing)
    feats = maps()
    torch.testing.assert_close(head(feats), plain((feats[-1].mean((2, 3)),)), rtol=0, atol=0)

    optimizer = torch.optim.SGD(head.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        head(feats).square().sum().backward()
        optimizer.step()
    assert all(p.grad.abs().max() > 0 for p in head.parameters())


@pytest.mark.parametrize('init', ['paper', 'identity'])
def test_trains_and_predicts_in_a_classifier(init):
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(1, 2, 3)
            ),
            head=dict(
                type='mmattn.LearnToPayHead', num_classes=5, in_channels=[16, 32, 64], init=init
            ),
        )
    )
    model.init_weights()
    assert model.head.classifier.weight.std().item() == pytest.approx(0.01, rel=0.3)
    images = torch.randn(2, 3, 48, 64)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    losses = model(images, samples, mode='loss')
    losses['loss'].backward()
    predicted = model.eval()(images, mode='predict')
    assert predicted[0].pred_score.shape == (5,)
    torch.testing.assert_close(predicted[0].pred_score.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(num_classes=0), 'num_classes must be >= 1, got 0'),
        (dict(in_channels=[8]), r'in_channels must name at least 2 maps .*, got \[8\]'),
        (dict(in_channels=[8, 0]), 'global_channels must be >= 1, got 0'),
        (dict(init='no'), "init must be one of .* got 'no'"),
    ],
    ids=['classes', 'one map', 'no channels', 'init'],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        LearnToPayHead(**{'num_classes': 4, 'in_channels': [3, 6], **options})


@pytest.mark.parametrize(
    'options, reaches',
    [({}, False), (dict(compatibility='dot'), True), (dict(init='identity'), True)],
    ids=['learned', 'dot', 'identity'],
)
def test_whether_the_last_map_gets_a_gradient(options, reaches):
    head = randomise(LearnToPayHead(4, [3, 6, 6], **options).double())
    feats = tuple(m.detach().requires_grad_() for m in maps(torch.float64))
    head(feats).square().sum().backward()
    assert (feats[-1].grad.abs().max() > 1e-9) == reaches


def test_wrong_features():
    head = LearnToPayHead(4, [3, 6])
    with pytest.raises(ValueError, match='in_channels names 2 maps, got 1'):
        head((torch.zeros(1, 6, 2, 2),))
    with pytest.raises(TypeError, match='needs maps .*neck=None'):
        head((torch.zeros(1, 3), torch.zeros(1, 6)))
