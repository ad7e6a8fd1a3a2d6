"""What holds for every test."""

import os

# The tests' tensors are tiny: waiting for a second thread would cost most of a run. Said before
# torch starts its threads, and to the processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    """A test's random numbers are its own, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_default_scope():
    """A default scope that a test sets (a config, a runner) must not reach the next one."""
    yield
    DefaultScope._instance_dict.clear()
