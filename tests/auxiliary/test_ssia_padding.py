"""Padding of a batch is no part of an image: it must not reach what SSIA reads."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement

from mmattn.auxiliary import SSIABlock
from mmattn.auxiliary.ssia import pool
from mmattn.auxiliary.taps import _covered, image_sizes, watch
from tests.values import image, randomise

from .models import TOY, build
from .test_ssia_hosts import detection_batch, detector  # noqa: F401 (a fixture)

SIZES = [(5, 4), (3, 6), (1, 1)]  # on maps of 5 x 6


def padded(channels=3, seed=1):
    """Maps of 5 x 6, of which only some are image, and the same images alone."""
    maps = image(3, channels, 5, 6, seed=seed, grad=False)
    return maps, [m[None, :, :h, :w].clone() for m, (h, w) in zip(maps, SIZES)]


def test_the_summaries_are_those_of_the_images_alone():
    maps, alone = padded()
    found = pool(maps, SIZES)
    torch.testing.assert_close(found.channel, torch.cat([pool(x).channel for x in alone]))
    for spatial, (h, w), x in zip(found.spatial, SIZES, alone):
        torch.testing.assert_close(spatial[:, :h, :w], pool(x).spatial[0])
    whole = pool(maps, [(5, 6)] * 3)
    assert whole.sizes is None
    assert torch.equal(whole.channel, pool(maps).channel)


@pytest.mark.parametrize('resize_input', [False, True])
def test_losses_are_those_of_the_images_alone(resize_input):
    """With whatever stands in the padding, also in the gradient."""
    options = dict(norm='LN', hidden=5, resize_input=resize_input)
    net = randomise(SSIABlock(3, (4, 4), 7, (2, 3), **options).double())
    (low, lows), (high, highs) = padded(), padded(7, seed=2)
    low.requires_grad_()
    expected = [net.losses(pool(x), pool(y)) for x, y in zip(lows, highs)]
    for noise in (0, 1e3):
        for x in (low.data, high):
            for one, (h, w) in zip(x, SIZES):
                one[:, h:] += noise
                one[:, :, w:] += noise
        found = net.losses(pool(low, SIZES), pool(high, SIZES))
        for name, value in found.items():
            mean = torch.stack([losses[name] for losses in expected]).mean()
            torch.testing.assert_close(value, mean, msg=name)
    (grad,) = torch.autograd.grad(sum(found.values()), low)
    for g, (h, w) in zip(grad, SIZES):
        assert g[:, :h, :w].abs().min() > 0
        g[:, :h, :w] = 0
        assert torch.equal(g, torch.zeros_like(g))


@pytest.mark.parametrize(
    'length, whole, cells, expected',
    [
        (64, 64, 16, 16),
        (40, 64, 16, 10),
        (41, 64, 16, 11),  # what a layer of stride 2 that rounds up makes of 41
        (33, 50, 13, 9),  # 50 is no multiple of the stride 4
        (26, 50, 2, 1),  # stride 32, not 25
        (90, 300, 19, 6),  # SSD
        (28, 224, 16, 2),  # patches of 14
        (5, 10, 20, 10),  # a map larger than the input
        (1, 64, 2, 1),
    ],
)
def test_covered(length, whole, cells, expected):
    assert _covered(length, whole, cells) == expected


def samples(*sizes, whole=(32, 32)):
    return [
        BaseDataElement(metainfo=dict(img_shape=size, batch_input_shape=whole), label=n % 5)
        for n, size in enumerate(sizes)
    ]


def test_image_sizes():
    x = torch.zeros(2, 3, 32, 32)
    assert image_sizes(x, samples((32, 16), (20, 32))) == ([(32, 16), (20, 32)], (32, 32))
    assert image_sizes(x, samples((32, 32), (32, 32))) is None
    assert image_sizes(x, samples((20, 20), (9, 9), whole=(64, 64))) is None  # resized since
    assert image_sizes(x, [BaseDataElement(metainfo=dict(img_shape=(20, 20)))] * 2) is None
    assert image_sizes(x, torch.zeros(2)) is None
    assert image_sizes(x, None) is None


def test_an_image_padded_inside_a_batch_is_the_image_alone():
    """Layers of 2 x 2 with stride 2: no cell sees both, so the values are the same."""
    model, _ = build(dict(TOY, kernel_size=2), norm='LN')
    model.eval()
    sizes = [(32, 16), (16, 32), (32, 32)]
    images = [torch.randn(1, 3, *size) for size in sizes]
    batch = torch.cat([F.pad(x, (0, 32 - x.shape[3], 0, 32 - x.shape[2])) for x in images])
    together = model(batch, samples(*sizes), mode='loss')
    alone = [model(x, torch.tensor([0]), mode='loss') for x in images]
    names = [name for name in together if 'ssia' in name]
    assert len(names) == 6
    for name in names:
        mean = torch.stack([losses[name] for losses in alone]).mean()
        torch.testing.assert_close(together[name], mean, msg=name)
    unaware = model(batch, torch.tensor([0, 1, 2]), mode='loss')
    assert all((together[name] - unaware[name]).abs() > 1e-4 for name in names)

    first = model.spatial_signals(batch, samples(*sizes))
    for number, (pair, predicted, signal) in enumerate(first):
        for n, x in enumerate(images):
            pair_alone, *maps = model.spatial_signals(x)[number]
            assert pair_alone == pair
            torch.testing.assert_close((predicted[n : n + 1], signal[n : n + 1]), tuple(maps))


def test_a_detectors_batch(detector):  # noqa: F811
    """mmdet's own preprocessor says what is image."""
    model, _ = detector
    data = detection_batch(model, [(64, 96), (50, 40)])
    assert tuple(data['inputs'].shape) == (2, 3, 64, 96)
    with watch(model, model.ssia.taps, image_sizes(**data)) as pooled:
        model.extract_feat(data['inputs'])
    stages = [pooled[f'backbone.layer{n}'].sizes for n in (1, 2, 3, 4)]
    assert stages == [
        [(16, 24), (13, 10)], [(8, 12), (7, 5)], [(4, 6), (4, 3)], [(2, 3), (2, 2)]
    ]  # fmt: skip


@pytest.mark.parametrize('fill', [0.0, 9.0])
def test_summaries_of_a_padded_image(detector, fill):  # noqa: F811
    """3 x 3 layers let some padding in at the edge; most of the summary is the image alone."""
    model, _ = detector
    model.eval()
    data = detection_batch(model, [(64, 96), (32, 32)])
    data['inputs'][1, :, 32:] = data['inputs'][1, :, :, 32:] = fill
    found = []
    for inputs, images in (
        (data['inputs'], image_sizes(**data)),
        (data['inputs'], None),
        (data['inputs'][1:, :, :32, :32], None),
    ):
        with torch.no_grad(), watch(model, ['backbone.layer1'], images) as pooled:
            model.extract_feat(inputs)
        found.append(pooled['backbone.layer1'].channel[-1])
    aware, unaware, alone = found
    assert (aware - alone).norm() < 0.5 * (unaware - alone).norm()
