"""Variants timed interleaved, and their peak memory.

Times on a shared machine drift, so nothing is compared across runs: each round runs every
variant once, and the ratio of two variants is the median over the rounds of their ratios.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ['interleave', 'peak_bytes', 'ratio']


def interleave(
    variants: dict[str, Callable[[], object]], repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of every variant in every round, the first one not counted if it warms up.

    On a GPU the clock stops when its work is done.
    """
    times = {name: [] for name in variants}
    for round_ in range(0 if warm_up else 1, repeats + 1):
        for name, variant in variants.items():
            _wait()
            start = time.perf_counter()
            variant()
            _wait()
            if round_:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """Median of ``name``'s time over the time of ``to`` in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[to]))


def peak_bytes(variant: Callable[[], object], on_gpu: bool | None = None) -> int:
    """Most memory that tensors made during a call hold at once.

    Args:
        variant: the call.
        on_gpu: whether its tensors are on a GPU (where there is one).

    On a GPU as its allocator counts, on a CPU the sum of the live allocations that torch's
    profiler sees (what a library such as oneDNN allocates by itself is not among them).
    """
    variant()
    if torch.cuda.is_available() if on_gpu is None else on_gpu:
        _wait()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        variant()
        _wait()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        variant()
    alive = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
