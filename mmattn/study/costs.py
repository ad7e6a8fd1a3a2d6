"""What a method costs: parameters, multiply-accumulates, latency, a training step."""

import hashlib
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmattn.analysis.complexity import measure_complexity
from mmattn.analysis.timing import interleave, ratio
from mmattn.core.text import read_json, write_text
from mmattn.study.plan import PLAIN, Entry
from mmattn.study.settings import canonical

__all__ = ['measure_costs']


def measure_costs(
    entries: Sequence[Entry],
    file: Path,
    rounds: int = 5,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Run every entry once on the config's own images, beside plain.

    A test of one image and a training step of one batch, each method interleaved with plain, so
    that a machine that slows down slows both. It also shows, before anything trains, which methods
    cannot run here.

    Args:
        entries: Plain first.
        file: What was measured earlier with the same configs is read from there and kept.
        rounds: Counted rounds; with 0 each entry runs once and nothing is timed.
        say: Told what is being measured.

    Returns:
        By label: ``params``, ``macs``, and with rounds ``latency_ms``, ``latency`` and ``step``
        (ratios to plain); or ``problem`` alone.
    """
    known = read_json(file) if file.is_file() else {}
    stamps = {one.label: _stamp(one.config, rounds) for one in entries}
    fresh = [one for one in entries if known.get(one.label, {}).get('stamp') != stamps[one.label]]
    if fresh:
        base = entries[0].config
        init_default_scope(base.get('default_scope') or 'mmengine')
        test, train = _batch(base, 'test', 1), _batch(base, 'train')
        plain = _build(base)
        for one in fresh:
            say(one.label)
            found = _measure(one, plain, test, train, rounds)
            known[one.label] = dict(found, stamp=stamps[one.label])
            write_text(file, json.dumps(known, indent=1) + '\n')
    return {
        one.label: {name: value for name, value in known[one.label].items() if name != 'stamp'}
        for one in entries
    }


def _stamp(cfg: Config, rounds: int) -> str:
    """Return a text that changes with model, image size, device and threads."""
    settings = {k: v for k, v in canonical(cfg).items() if k.startswith(('model', 'test_data'))}
    text = json.dumps([settings, rounds, get_device()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _batch(cfg: Config, split: str, size: int | None = None) -> dict:
    """Return the first batch of a split, from the config's own data and pipeline."""
    loader = {**cfg[f'{split}_dataloader'], 'num_workers': 0, 'persistent_workers': False}
    for name in ('prefetch_factor', 'timeout'):
        loader.pop(name, None)
    if size:
        loader['batch_size'] = size
    try:
        return next(iter(Runner.build_dataloader(loader, seed=0)))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{split}_dataloader.dataset: {error.filename or error} does not exist; set data_root '
            '(--data-root) to where the data lie'
        ) from error


def _build(cfg: Config) -> nn.Module:
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    return MODELS.build(model).to(get_device())


def _infer(net: nn.Module, data: dict) -> None:
    net.eval()
    with torch.inference_mode():
        net.test_step(data)


def _step(net: nn.Module, data: dict) -> None:
    net.train()
    losses = net(**net.data_preprocessor(data, True), mode='loss')
    net.parse_losses(losses)[0].backward()
    net.zero_grad(set_to_none=True)


def _measure(
    entry: Entry, plain: nn.Module, test: dict, train: dict, rounds: int
) -> dict[str, Any]:
    try:
        net = plain if entry.label == PLAIN else _build(entry.config)
        net.eval()
        inputs = net.data_preprocessor(test, False)
        counted = measure_complexity(net, **inputs, mode='tensor')
        _infer(net, test)
        _step(net, train)
        kept = net.state_dict().keys()  # what only trains (SSIA) is not deployed
        params = sum(p.numel() for name, p in net.named_parameters() if name in kept)
        found = dict(params=params, macs=counted.macs)
        if not rounds:
            return found
        nets = {PLAIN: plain, entry.label: net}
        infer = interleave({n: partial(_infer, one, test) for n, one in nets.items()}, rounds)
        step = interleave({n: partial(_step, one, train) for n, one in nets.items()}, rounds)
    except Exception as error:  # a network that does not run may raise anything
        text = (str(error).strip().splitlines() or [''])[0]
        return dict(problem=f'{type(error).__name__}: {text}')
    return dict(
        found,
        latency_ms=round(1000 * statistics.median(infer[entry.label]), 2),
        latency=round(ratio(infer, entry.label, PLAIN), 3),
        step=round(ratio(step, entry.label, PLAIN), 3),
    )
