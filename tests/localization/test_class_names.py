"""Classes known on both sides are matched by name, or refused."""

import pytest

from mmattn.localization.class_names import class_name, in_words, line_up

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


def test_a_thousand_classes_without_names_are_imagenets():
    pytest.importorskip('torchvision')
    ids = [f'n{i:08d}' for i in range(1000)]
    for names in ((), ids):
        words = in_words(names, 1000)
        assert (words[0], words[7], words[999]) == ('tench', 'cock', 'toilet tissue')
    own = tuple(f'part {i}' for i in range(1000))
    assert in_words(own, 1000) == own
    assert in_words(ids[::-1], 1000) == tuple(ids[::-1])
    assert in_words((), 10) == ()


def test_a_class_without_a_name_is_its_number():
    assert [class_name(('cat',), label) for label in (0, 1, -1)] == ['cat', 'class 1', 'class -1']
