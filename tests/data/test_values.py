"""What each kind of value takes and refuses, and how a sentence shows a value."""

import math

import pytest

from mmattn.data import values
from mmattn.data.fields import (
    COCO,
    EVALUATOR,
    LAYOUTS,
    LOADER,
    LOCALIZATION,
    MASKS,
    EntryReader,
    Field,
)
from mmattn.data.values import Kind, show

ODD = [None, '', 'x', [], {}, True, math.nan, math.inf, -math.inf, 10**400]
RLE = dict(size=[30, 40], counts=[3, 4])


@pytest.mark.parametrize(
    'kind, good, bad',
    [
        (values.ID, [0, 7, 7.0, 2**53 - 1], [*ODD, -1, 0.5, '7', 2**53]),
        (values.SIDE, [1, 640, 640.0, 10**6], [*ODD, 0, -5, 1.5, 10**6 + 1]),
        (values.AREA, [0, 0.5, 1e10], [*ODD, -1, 2e10]),
        (
            values.XYWH,
            [[0, 0, 0, 0], [-3.5, 2, 10, 8], (1, 2, 3, 4)],
            [*ODD, [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, -1, 4], [1, 2, 3, '4'], [0, 0, 1, 1e8]],
        ),
        (values.CORNERS, [[], [[1, 2, 3, 4]]], ['', None, 3, [1, 2, 3, 4], [[1, 2, 3]]]),
        (values.FLAG, [0, 1, 1.0, True], [None, '', '0', [], 2, -1, math.nan]),
        (values.NAME, ['a', ' a', '1'], [None, '', ' ', 3, [], 'a\0']),
        (
            values.SEGMENTATION,
            [[[0, 0, 1, 0, 1, 1]], RLE, dict(size=[30, 40], counts='abc')],
            [
                *ODD,
                [[]],
                [[0, 0, 1, 1]],
                [[0, 0, 1, 0, 1, 1, 2]],
                [0, 0, 1, 0, 1, 1],
                dict(counts='abc'),
                dict(size=[30], counts='abc'),
                dict(size=[30, 40], counts=[]),
            ],
        ),
        (values.LABEL, [0, 10, 10.0], [*ODD, -1, 0.5, '10']),
        (values.TEXT_SIDE, ['40', ' 40 '], ['', '40.0', '0', '-4', 'x', None, 40]),
        (values.TEXT_NUMBER, ['4', '-4.5', '1e2'], ['', 'nan', 'inf', '1e9', 'x', '4,5', None]),
        (values.TEXT_FLAG, ['0', '1'], ['', '2', 'Unspecified', 'true']),
        (values.TEXT_LABEL_FROM_1, ['1', '200'], ['0', '-1', '1.5', '']),
    ],
    ids=lambda value: value.allowed[:30] if isinstance(value, Kind) else '',
)
def test_kinds(kind, good, bad):
    for value in good:
        kind.read(value)
    for value in bad:
        with pytest.raises((ValueError, TypeError, OverflowError)):
            kind.read(value)


def test_whole_numbers_are_whole_numbers_whatever_their_type_says():
    assert values.ID.read(7.0) == 7 and isinstance(values.ID.read(7.0), int)
    assert values.TEXT_LABEL.read('010') == 10


@pytest.mark.parametrize(
    'value, text',
    [
        (None, 'null'),
        (True, 'true'),
        (1, '1'),
        ('1', "the text '1'"),
        ([], 'the list []'),
        ({}, 'the object {}'),
        (math.nan, 'nan'),
        ('x' * 99, "the text '" + 'x' * 56 + '...'),
    ],
)
def test_a_value_is_shown_with_its_type(value, text):
    assert show(value) == text


def test_a_field_counts_for_those_who_read_it():
    def problems(readers, **entry):
        whole = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 1, 1], area=1)
        whole.update(entry)
        return EntryReader(COCO['annotations'], readers)(whole)[1]

    assert problems({LOADER}) == []
    assert problems({LOCALIZATION}) == []
    assert problems({EVALUATOR}) == [('iscrowd', "has no 'iscrowd'")]
    assert problems({LOADER, MASKS}) == [('segmentation', "has no 'segmentation'")]
    assert problems({LOADER}, iscrowd=None, segmentation=None, ignore=None) == []
    assert problems({LOADER, EVALUATOR}, iscrowd=None) == [
        ('iscrowd', 'iscrowd must be 0 or 1, got null')
    ]
    assert problems({LOADER}, isCrowd='x') == []
    assert problems({EVALUATOR}, is_crowd=0) == [
        ('iscrowd', "has no 'iscrowd'; did you mean 'is_crowd'?")
    ]


@pytest.mark.parametrize('entry', [None, 3, 'text', [1]])
def test_an_entry_that_is_no_object(entry):
    ((field, text),) = EntryReader(COCO['images'], {LOADER})(entry)[1]
    assert field == '' and text.startswith("must be an object with fields such as 'id', got ")


def test_every_field_of_every_layout_has_a_reader_and_says_what_is_allowed():
    for layout, groups in LAYOUTS.items():
        for fields in groups.values():
            for field in fields:
                assert isinstance(field, Field) and field.kind.allowed, layout
                assert {*field.needed_by, *field.read_by} <= {
                    LOADER,
                    EVALUATOR,
                    MASKS,
                    LOCALIZATION,
                }
                assert field.needed_by or field.read_by
