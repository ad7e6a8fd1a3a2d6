"""Classes known on both sides are matched by name, or refused."""

import pytest

from mmattn.localization.class_names import line_up

KNOWN = ('red', 'green', 'blue')


@pytest.mark.parametrize(
    'names, known, used, places',
    [
        (KNOWN, KNOWN, None, [0, 1, 2]),
        (('blue', 'green', 'red'), KNOWN, None, [2, 1, 0]),
        (('Blue', 'red'), KNOWN, None, [2, 0]),
        (('shapes', 'blue', 'green', 'red'), KNOWN, (1, 2, 3), [None, 2, 1, 0]),
        (('001.Sea_Gull', '002.Owl'), ('Owl', 'Sea_Gull'), None, [1, 0]),
        ((('n01', 'tench, fish'), ('n02', 'crane')), ('tench', 'crane bird'), None, [0, 1]),
        (('wild cat', 'cat'), ('cat', 'wild cat'), None, [1, 0]),
    ],
)
def test_names_are_lined_up(names, known, used, places):
    assert line_up(names, known, used) == places


@pytest.mark.parametrize('names', [('red', 'green', 'yellow'), ('a', 'b', 'c'), ('x',)])
def test_other_classes_are_refused(names):
    with pytest.raises(ValueError, match='not those of the classifier: .* not among its 3'):
        line_up(names, KNOWN)


def test_a_list_that_the_user_named_may_be_a_translation():
    assert line_up(('rot', 'gruen', 'blau'), KNOWN, explicit=True) == [0, 1, 2]
    with pytest.raises(ValueError, match='not those of the classifier'):
        line_up(('rot', 'green', 'red'), KNOWN, explicit=True)
