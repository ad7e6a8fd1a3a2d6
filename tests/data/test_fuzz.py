"""No value of an annotation file ends in a traceback, or is taken and breaks what reads it."""

import pytest

pytest.importorskip('mmdet')

from tests.data.fuzz import all_cases, misses, play, prepare  # noqa: E402

CASES = all_cases()


def name_of(case):
    layout, context, place, mutation = case
    place = place if isinstance(place, str) else '.'.join(map(str, place))
    return f'{layout}-{context}-{place}-{mutation}'


def check(root, case):
    """The complaint about a case, or None."""
    try:
        sentence, words = play(root, case)
    except Exception as error:
        return f'{name_of(case)}: {type(error).__name__}: {error}'
    if '\n' in sentence:
        return f'{name_of(case)}: more than a line: {sentence}'
    if sentence and misses(sentence, words):
        return f'{name_of(case)}: {misses(sentence, words)} not in: {sentence}'
    return None


def test_a_sample_of_the_mutations(tmp_path):
    prepare(tmp_path)
    complaints = [check(tmp_path, case) for case in CASES[::37]]
    assert [c for c in complaints if c] == []


@pytest.mark.slow
def test_every_mutation(tmp_path):
    prepare(tmp_path)
    complaints = [check(tmp_path, case) for case in CASES]
    assert len(CASES) > 4000
    assert [c for c in complaints if c] == []
