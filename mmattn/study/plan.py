"""What a study compares: the plain config and one config for each method, checked beforehand."""

import ast
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmattn.core.checkpoint import compare, load_checkpoint
from mmattn.insertion import add_attention
from mmattn.insertion.insert import read_config
from mmattn.insertion.methods import METHODS
from mmattn.study.settings import canonical, differences

__all__ = [
    'PLAIN',
    'Entry',
    'all_methods',
    'check_checkpoint',
    'check_disk',
    'check_test',
    'make_entries',
    'parse_method',
    'set_data_root',
]

PLAIN = 'plain'
_PLACES = ('where', 'stages', 'position', 'init')
_HYBRIDS = ('ECA+SpatialGate', 'ECA+ConvAutoencoderAttention')
_TWINS = 'TDAM'


@dataclass
class Entry:
    """A row of a study.

    Args:
        label: Its name, also that of its folders.
        asked: What was written on the command line.
        config: Its whole config.
        changes: Settings other than the model in which it differs from plain.
    """

    label: str
    asked: str
    config: Config
    changes: list[str] = field(default_factory=list)


def all_methods() -> list[str]:
    """Return what ``all`` stands for: every method by itself, and the two published hybrids."""
    kinds = {method.name: method.kind for method in METHODS}
    twins = [name for name, kind in kinds.items() if kind == 'twin']
    single = [name for name in kinds if name not in twins and name != 'Sequence']
    return [*single, _TWINS, *_HYBRIDS]


def parse_method(text: str) -> tuple[str | list[dict], dict[str, Any]]:
    """Read a method with options.

    Args:
        text: ``'CBAM'``, ``'CBAM:reduction=8,stages=(1,2)'``, or gates one after the other,
            ``'ECA+SpatialGate'``.

    Returns:
        The method for :func:`mmattn.add_attention` and its other arguments.

    Raises:
        ValueError: An option is no ``name=value``.
    """
    name, _, rest = text.partition(':')
    options: dict[str, Any] = {}
    for part in re.split(r',(?![^(\[{]*[)\]}])', rest) if rest else ():
        key, found, value = part.partition('=')
        if not found or not key.strip().isidentifier():
            raise ValueError(
                f'--methods {text}: {part!r} is no option; write NAME:OPTION=VALUE,OPTION=VALUE'
            )
        options[key.strip()] = _value(value.strip())
    if '+' in name:
        own = {k: options.pop(k) for k in list(options) if k not in _PLACES}
        gates = [dict(type=f'mmattn.{gate.strip()}') for gate in name.split('+')]
        return 'Sequence', {**options, 'gates': gates, **own}
    return name.strip(), options


def _value(text: str) -> Any:
    """Return a Python literal, also ``dict(a=1)``; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    if re.fullmatch(r'dict\(.*\)', text):
        try:
            call = ast.parse(text, mode='eval').body
            return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        except (ValueError, SyntaxError):
            pass
    return text


def make_entries(
    base: Config, asked: Sequence[str], change: Callable[[Config], None]
) -> tuple[list[Entry], dict[str, str]]:
    """Return the configs of a study, plain first.

    Args:
        base: The plain config, with everything that the command line sets.
        asked: Methods, ``'all'``, and files of configs of one's own.
        change: Applies the same command line to a config of one's own.

    Returns:
        The entries, and the methods that cannot stand in this network with the reason.

    Raises:
        ValueError: A method is asked for twice, or tests other data than the plain config.
    """
    wanted = [name for one in asked for name in (all_methods() if one == 'all' else [one])]
    wanted = list(dict.fromkeys(wanted)) if 'all' in asked else wanted
    twice = sorted({one for one in wanted if wanted.count(one) > 1})
    if twice:
        raise ValueError(f'--methods: {", ".join(twice)} asked for more than once')
    labels = _labels(wanted)
    plain = canonical(base)
    entries, refused = [Entry(PLAIN, '', base)], {}
    for one in wanted:
        try:
            cfg = _make(base, one, change)
        except (ValueError, TypeError, FileNotFoundError) as error:
            refused[one] = str(error)
            continue
        changed = differences(plain, canonical(cfg))
        tested = [name for name in changed if name.startswith(('test_dataloader', 'test_eval'))]
        if tested:
            raise ValueError(
                f'--methods {one}: its test is not that of the plain config (it differs in '
                f'{", ".join(tested[:3])}), so their figures cannot be compared'
            )
        if not changed:
            refused[one] = 'its config is the plain one'
            continue
        others = [
            f'{name} {new!r} (plain: {old!r})'
            for name, (old, new) in changed.items()
            if not name.startswith(('model.', 'custom_hooks'))
        ]
        entries.append(Entry(labels[one], one, cfg, others))
    return entries, refused


def _make(base: Config, asked: str, change: Callable[[Config], None]) -> Config:
    if asked.endswith('.py') or '::' in asked:
        cfg = read_config(asked)
        change(cfg)
        return cfg
    method, options = parse_method(asked)
    cfg = add_attention(base, method, **options)
    cfg._cfg_dict.pop('mmattn', None)
    return cfg


def _labels(asked: Iterable[str]) -> dict[str, str]:
    """Names for tables and folders; configs of one name in two folders are told apart."""
    labels = {}
    for one in asked:
        if one.endswith('.py'):
            labels[one] = Path(one).stem
        else:
            labels[one] = re.sub(r'[^\w.+-]+', '-', one.replace('::', '-')).strip('-')
    for one in labels:
        parts = Path(one).absolute().parts
        depth = 1
        while one.endswith('.py') and [PLAIN, *labels.values()].count(labels[one]) > 1:
            depth += 1
            if depth > len(parts):
                raise ValueError(f'--methods: {one} asked for more than once')
            labels[one] = '-'.join(Path(*parts[-depth:]).with_suffix('').parts).strip('/-')
    names = [PLAIN, *labels.values()]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f'--methods: more than one would be called {", ".join(sorted(twice))}')
    return labels


def set_data_root(cfg: Config, root: str) -> None:
    """Set ``data_root`` of the data sets of all splits, and of annotation files below the old."""

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if value.get('ann_file') and value.get('type') and 'data_root' not in value:
                for old in olds:  # an evaluator's file
                    if isinstance(value['ann_file'], str) and value['ann_file'].startswith(old):
                        rest = value['ann_file'][len(old) :].lstrip('/')
                        value['ann_file'] = str(Path(root) / rest)
            if isinstance(value.get('data_root'), str):
                olds.add(value['data_root'])
                value['data_root'] = root
            for child in value.values():
                walk(child)
        elif isinstance(value, list | tuple):
            for child in value:
                walk(child)

    olds: set[str] = set()
    for split in ('train', 'val', 'test'):
        walk(cfg.get(f'{split}_dataloader'))
    for split in ('val', 'test'):
        walk(cfg.get(f'{split}_evaluator'))


def check_test(cfg: Config, best: str | None) -> list[str]:
    """Make sure that there is something to compare.

    Args:
        cfg: The plain config; a missing test is filled from the validation.
        best: The validation figure that chooses the checkpoint, if one does.

    Returns:
        What a person should know.

    Raises:
        ValueError: No test data, no evaluator, or no validation where ``best`` needs one.
    """
    notes = []
    if not cfg.get('test_dataloader') or not cfg.get('test_evaluator'):
        if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
            lacks = 'test_evaluator' if cfg.get('test_dataloader') else 'test_dataloader'
            raise ValueError(
                f'config: it has no {lacks} and no validation either, so nothing would be '
                'measured; add test_dataloader, test_evaluator and test_cfg'
            )
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.test_cfg = cfg.get('test_cfg') or dict()
        notes.append('the config has no test: its validation data are the test')
    if best and not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
        raise ValueError(
            f'--best {best}: this config has no validation (val_dataloader, val_evaluator), so no '
            'checkpoint can be chosen by it; leave --best out to test the last one'
        )
    if best and _same_data(cfg.val_dataloader.dataset, cfg.test_dataloader.dataset):
        notes.append(
            f'--best {best} chooses each checkpoint by the images it is tested on, so all figures '
            'are a little too good'
        )
    return notes


def _same_data(one: dict, other: dict) -> bool:
    names = ('data_root', 'ann_file', 'data_prefix', 'split')
    return all(one.get(name) == other.get(name) for name in names)


def check_checkpoint(cfg: Config, path: str) -> str:
    """Compare a checkpoint with the plain model before anything trains.

    Returns:
        What it brings, in one line.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is unreadable, or of another network.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'--checkpoint: {path} does not exist')
    try:
        content = load_checkpoint(path)
    except ValueError as error:
        raise ValueError(f'--checkpoint: {error}') from error
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    report = compare(MODELS.build(cfg.model), content)
    lost = len(report.missing) + len(report.mismatched)
    if lost > len(report.matched):
        raise ValueError(
            f'--checkpoint: {path} is of another network than the config: {report.summary()}'
        )
    return report.summary()


def check_disk(folder: Path, models: Sequence[int], at_a_time: int, keep: bool) -> None:
    """Make sure that the checkpoints have room.

    Args:
        folder: Where the runs go.
        models: Parameters of the model of every run.
        at_a_time: Runs at a time.
        keep: Whether every run's tested checkpoint stays.

    Raises:
        ValueError: There is not enough room.
    """
    # a training keeps weights and two moments of each, and writes the next before the last goes
    need = at_a_time * 2 * 3 * 4 * max(models) + (4 * sum(models) if keep else 0)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if need > 0.95 * free:
        raise ValueError(
            f'--work-dir {folder}: {need / 1e9:.1f} GB of checkpoints are to come and '
            f'{free / 1e9:.1f} GB are free; choose another disk'
            + (' or leave out --keep-checkpoints' if keep else '')
        )
