"""The gallery shows an image as it was evaluated."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmattn.localization.cards import make_cards
from mmattn.localization.localizer import Localizer, Settings
from mmattn.localization.predict import predict
from mmattn.localization.structures import AnnotatedImage
from tests.localization.test_predict import small


@pytest.mark.parametrize(('frame', 'bright'), [('stored', 'left'), ('upright', 'right')])
def test_an_image_upside_down_is_turned_as_its_annotations_say(tmp_path, frame, bright):
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by half: the size does not tell the frames apart
    Image.fromarray(pixels).save(tmp_path / 'a.png', exif=exif)
    image = AnnotatedImage('a', tmp_path / 'a.png', 1, ((0, 0, 20, 30),), (30, 40), frame)
    settings = Settings(sweep_step=0)
    results = list(predict(small(), [image], settings))
    with Localizer(small(), settings) as localizer:
        (card,) = make_cards(localizer, results, [image], ('a', 'b', 'c', 'd'), 0.5)
    shown = Image.open(io.BytesIO(base64.b64decode(card['photo'].partition(',')[2])))
    means = np.asarray(shown.convert('L'))[:, [2, -3]].mean(0)
    assert ('left' if means[0] > means[1] else 'right') == bright
