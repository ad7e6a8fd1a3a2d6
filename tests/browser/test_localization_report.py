"""The localization report in a real browser, at a desk and on a phone."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmattn.localization.annotate import annotate
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import evaluate
from mmattn.localization.boxes import boxes_from_maps, get_rule
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.drawing import explain
from mmattn.localization.localizer import Localizer, Settings, best_iou
from mmattn.localization.results import RunInfo, RunPlan
from tests.localization.data import boxes_json

pytestmark = pytest.mark.slow
NET = 'python:tests.localization.nets:tiny'
SIZES = {'desk': (1300, 900), 'phone': (390, 844)}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Two runs, the second beside the first: ``(report, settings, annotations)``."""
    root = tmp_path_factory.mktemp('report')
    images, boxes = boxes_json(root, 9)
    items = json.loads(boxes.read_text())
    for item in items[::2]:  # large enough for a network that knows nothing to hit them
        item['boxes'] = [[0, 0, item['width'], 0.7 * item['height']]]
    boxes.write_text(json.dumps(items))
    found = load_annotations(boxes, images)
    classifier = replace(load_classifier(NET), classes=('dog', 'cat', 'red panda', 'hen'))
    settings = Settings(batch_size=4, iou_thr=0.5)
    evaluate(classifier, found, RunPlan(settings, root / 'a', workers=0))
    settings = replace(settings, rule=get_rule('gradcam-0.35'))
    info = RunInfo(command='python tools/localize.py', compare=str(root / 'a'))
    evaluate(classifier, found, RunPlan(settings, root / 'b', workers=0, info=info))
    return root / 'b/report.html', settings, found


@pytest.fixture(params=SIZES)
def page(request, browser, run):
    """The report, opened; no error may reach the console."""
    width, height = SIZES[request.param]
    context = browser.new_context(
        viewport=dict(width=width, height=height), color_scheme='light', accept_downloads=True
    )
    page = context.new_page()
    errors = []
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda said: errors.append(said.text) if said.type == 'error' else None)
    page.goto(run[0].as_uri())
    page.wait_for_selector('html[data-ready=true]')
    yield page
    assert errors == []
    context.close()


def slide(page, step):
    """Move the slider and wait until the page has been drawn again."""
    page.evaluate(
        """step => new Promise((done) => {
            const input = document.getElementById('threshold');
            input.value = step;
            input.dispatchEvent(new Event('input'));
            requestAnimationFrame(() => setTimeout(done));
        })""",
        step,
    )


def drawn_boxes(page):
    """Predicted boxes of each card as the page draws them, ``{key: [x0, y0, x1, y1]}``."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.card')].map((card) => [
            card.querySelector('svg').getAttribute('aria-label'),
            [...card.querySelectorAll('rect.found')].map((rect) => {
                const side = (name) => Number(rect.getAttribute(name));
                const [x, y] = [side('x'), side('y')];
                return [x, y, x + side('width'), y + side('height')];
            })]))"""
    )


def test_no_scroll_sideways(page):
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.tile b, .bar, #tools *')].filter((part) => {
            const box = part.getBoundingClientRect();
            return box.left < 0 || box.right > innerWidth;
        }).map((part) => part.outerHTML)"""
    )
    assert cut == []
    heights = page.evaluate("[...document.querySelectorAll('.tile b')].map(b => b.clientHeight)")
    assert max(heights) < 45  # "56.5 %" stays on one line


def test_the_slider_draws_the_boxes_of_python(page, run):
    _, settings, found = run
    data = json.loads(page.evaluate("document.getElementById('data').textContent"))
    assert data['thresholds'][data['start']] == 0.35
    assert len(data['thresholds']) == 100
    with Localizer(load_classifier(NET), settings) as localizer:
        overlays = {
            p.key: explain(localizer, p.path, p.label, p.boxes_xyxy, p.size)[-1]
            for p in found.images
        }
    counts = set()
    for step in [*range(0, 100, 7), 99]:
        slide(page, step)
        rule = replace(settings.rule, threshold=data['thresholds'][step])
        drawn = drawn_boxes(page)
        assert set(drawn) == set(overlays)
        hits = 0
        for key, overlay in overlays.items():
            geometry = overlay.geometry
            boxes = boxes_from_maps(overlay.raw, geometry.input_size, rule)[0]
            np.testing.assert_allclose(drawn[key], geometry.to_image(boxes), atol=1e-9)
            iou = best_iou(boxes, overlay.truth_xyxy, geometry, rule)
            hits += iou >= 0.5
            card = page.locator(f'.card:has(svg[aria-label="{key}"])')
            assert card.locator('.iou').text_content() == f'{iou:.2f}'
            assert (
                card.locator('.verdict')
                .text_content()
                .startswith(f'box {"right" if iou >= 0.5 else "wrong"}, class ')
            )
        assert f', {hits} of them with the box right' in page.text_content('#count')
        counts.add(hits)
    assert len(counts) > 2
    slide(page, data['start'])
    mark = float(page.get_attribute('#mark line', 'x1'))
    assert mark == pytest.approx(44 + 0.35 * (640 - 44 - 12), abs=0.1)
    best = page.locator('#curve-table tbody tr').first.locator('td').all_text_contents()
    assert re.fullmatch(r'\d+\.\d\xa0%', best[3])


def test_filters_and_order(page):
    shown = '.card:not([hidden])'
    every = page.locator(shown).count()
    assert every == 9
    names = page.locator('#class option').all_text_contents()
    assert names == ['all', 'cat', 'dog', 'hen', 'red panda']
    page.select_option('#class', label='red panda')
    assert page.locator(shown).count() == 2
    page.select_option('#class', '')
    right = 0
    for value, word in (('1', 'right'), ('0', 'wrong')):
        page.select_option('#box', value)
        texts = page.locator(f'{shown} .verdict').all_text_contents()
        assert all(text.startswith(f'box {word}') for text in texts)
        right += len(texts)
        page.select_option('#box', '')
        page.select_option('#best', value)
        texts = page.locator(f'{shown} .verdict').all_text_contents()
        assert all(text.endswith(f'class {word}') for text in texts)
        page.select_option('#best', '')
    assert right == every
    page.select_option('#sort', '-iou')
    ious = [float(text) for text in page.locator(f'{shown} .iou').all_text_contents()]
    assert ious == sorted(ious, reverse=True)
    page.select_option('#sort', 'iou')
    assert [float(t) for t in page.locator(f'{shown} .iou').all_text_contents()] == sorted(ious)


def test_the_keyboard_is_enough(page):
    page.focus('#threshold')
    page.keyboard.press('ArrowRight')
    assert page.text_content('#threshold-value') == '0.36'
    assert page.get_attribute('#threshold', 'aria-valuetext') == '0.36'
    page.focus('#heat')
    page.keyboard.press('Home')
    assert page.evaluate("getComputedStyle(document.querySelector('.card .heat')).opacity") == '0'
    page.focus('.card:first-child .zoom')
    page.keyboard.press('Enter')
    assert page.is_visible('#large')
    first = page.text_content('#large-name')
    page.keyboard.press('ArrowRight')
    assert page.text_content('#large-name') != first
    page.focus('#large .threshold')
    page.keyboard.press('End')
    assert page.text_content('#threshold-value') == '0.99'
    page.keyboard.press('Escape')
    assert not page.is_visible('#large')
    page.focus('#class-table th:nth-child(2) button')
    page.keyboard.press('Enter')
    assert page.get_attribute('#class-table th:nth-child(2)', 'aria-sort') == 'ascending'
    page.fill('#find', 'panda')
    assert (
        page.locator('#class-table tbody tr:visible')
        .all_text_contents()[0]
        .startswith('red panda')
    )
    page.focus('#class-table tr:not([hidden]) td button')
    page.keyboard.press('Enter')
    assert page.locator('.card:not([hidden])').count() == 2


def test_dark_colours_and_their_switch(page):
    ground = 'getComputedStyle(document.body).backgroundColor'
    light = page.evaluate(ground)
    page.click('#theme')
    dark = page.evaluate(ground)
    assert dark != light
    page.click('#theme')
    assert page.evaluate(ground) == light


def test_what_the_page_says(page, run):
    assert page.title() == f'Localization: {NET}'
    text = page.inner_text('body')
    for words in (
        'bootstrap interval',
        'with replacement',
        'Centre box',
        'red panda',
        'gradcam-0.35',
    ):
        assert words in text
    assert 'gradcam-0.15' in page.inner_text('#compared')
    with page.expect_download() as saved:
        page.click('a[download="per_image.csv"]')
    rows = saved.value.path().read_text().splitlines()
    assert len(rows) == 10
    assert rows == (run[0].parent / 'per_image.csv').read_text().splitlines()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, svg[role=img]')]
            .filter((part) => !part.textContent.trim() && !part.getAttribute('aria-label'))
            .filter((part) => !(part.labels || []).length)
            .map((part) => part.outerHTML.slice(0, 80))"""
    )
    assert unnamed == []


def test_without_script_it_is_read_all_the_same(browser, run):
    context = browser.new_context(java_script_enabled=False, color_scheme='dark')
    page = context.new_page()
    page.goto(run[0].as_uri())
    text = page.inner_text('body')
    for words in (
        'gt_known',
        'box right, class',
        'box wrong, class',
        'Accuracy at every threshold',
        'red panda',
    ):
        assert words in text
    assert not page.is_visible('#slider')
    assert not page.is_visible('#theme')
    assert page.locator('.card').count() == 9
    assert page.locator('.card rect.found').count() == 9
    context.close()


def test_images_without_annotations(browser, tmp_path):
    images, _ = boxes_json(tmp_path, 5)
    classifier, settings = load_classifier(NET), Settings(rule=get_rule('clova-v2@0.40'))
    plan = RunPlan(settings, tmp_path / 'out', workers=0)
    annotate(classifier, sorted(images.iterdir()), plan)
    page = browser.new_page(viewport=dict(width=390, height=844))
    errors = []
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.goto((tmp_path / 'out/report.html').as_uri())
    page.wait_for_selector('html[data-ready=true]')
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    assert page.locator('#box, #best, .iou, #curve').count() == 0
    assert page.text_content('#count') == '5 of 5 images'
    slide(page, 10)
    drawn = drawn_boxes(page)
    with Localizer(classifier, settings) as localizer:
        for path in images.iterdir():
            overlay = explain(localizer, path)[-1]
            boxes = boxes_from_maps(overlay.raw, (32, 32), 'clova-v2@0.10')[0]
            wanted = overlay.geometry.to_image(boxes).tolist()
            assert sorted(drawn[path.name]) == [pytest.approx(box) for box in sorted(wanted)]
    page.select_option('#sort', '-score')
    assert errors == []
    page.close()


def test_the_tested_maps_tell_thresholds_apart(run):
    _, settings, found = run
    with Localizer(load_classifier(NET), settings) as localizer:
        overlay = explain(localizer, found.images[0].path, found.images[0].label)[-1]
    size = overlay.geometry.input_size
    boxes = {
        tuple(boxes_from_maps(overlay.raw, size, f'gradcam-0.{t:02d}')[0][0])
        for t in range(5, 95, 5)
    }
    assert torch.isfinite(overlay.raw).all()
    assert len(boxes) > 3
