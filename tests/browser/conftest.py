"""Chromium of the system, driven by Playwright; without one these tests skip and say why."""

import os
import shutil

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='session')
def browser():
    """A browser that every page of these tests shares."""
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f'no browser: none of {", ".join(NAMES)} is installed (make chromium)')
    root = os.name == 'posix' and os.geteuid() == 0  # for whom Chromium has no sandbox
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=['--no-sandbox'] if root else []
        )
        yield browser
        browser.close()
