"""How a command line ends on an error: one sentence for a mistake, a traceback for a bug."""

import dis
import errno
import inspect
import logging
import re
import shutil
import sys
import traceback
from pathlib import Path
from types import TracebackType

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmattn.core.checkpoint import newest_checkpoint
from mmattn.core.names import closest, did_you_mean
from mmattn.data.checks import broken_image_sentence, find_broken_images, image_paths

__all__ = ['end_run', 'explain', 'our_sentence']

_PACKAGE = Path(__file__).parents[1]
_OURS = (_PACKAGE, _PACKAGE.parent / 'tools', _PACKAGE.parent / 'benchmarks')
# Raised by us as well, but for developers
_BUGS = (AssertionError, AttributeError, NotImplementedError, StopIteration)
_FULL = {
    errno.ENOSPC: 'the disk is full',
    errno.EDQUOT: 'the quota on this disk is full',
    errno.EFBIG: 'the file would be larger than the system allows',
}


def end_run(
    name: str,
    error: BaseException,
    cfg: Config | None = None,
    splits: tuple = (),
    code: int = 1,
) -> int:
    """Say on the standard error how a run ended, and write it all into its log file.

    A mistake found by mmattn is answered by its sentence alone. Anything else shows its traceback,
    and our sentence comes last where we know one.

    Args:
        name: The tool's name, put before the sentence.
        error: What ended the run.
        cfg: The config, as far as it is known.
        splits: The splits of the config in use.
        code: The exit code of a failure.

    Returns:
        The exit code.
    """
    if isinstance(error, KeyboardInterrupt):
        print(f'{name}: interrupted; start again with --resume to continue', file=sys.stderr)
        return 130
    _to_log_file(error)
    sentence = our_sentence(error) or _full_disk(error, cfg) or _wrong_path(error)
    if sentence is None:
        traceback.print_exception(type(error), error, error.__traceback__)
        sentence = explain(error, cfg, splits)
    if sentence is not None:
        print(f'{name}: {sentence}', file=sys.stderr)
    return code


def our_sentence(error: BaseException) -> str | None:
    """Return the message of an error that a ``raise`` statement of mmattn, or of its tools,
    raised.

    mmengine raises an error of a class it builds again, with the class in front: that is seen
    through. What Python or a framework raised is none of ours, wherever it was called from.
    """
    link: BaseException | None = error
    while link is not None:
        if _raised_by_us(link.__traceback__):
            return None if isinstance(link, _BUGS) else _text(link)
        cause = link.__cause__ or link.__context__
        repeated = cause is not None and type(cause) is type(link)
        link = cause if repeated and _contains(link, cause) else None
    return None


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the innermost frame is in a file of ours and stands at a ``raise``."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if not any(folder in Path(code.co_filename).resolve().parents for folder in _OURS):
        return False
    operation, argument = code.co_code[trace.tb_lasti], code.co_code[trace.tb_lasti + 1]
    return dis.opname[operation] == 'RAISE_VARARGS' and argument > 0  # 0: raised once more


def _text(error: BaseException) -> str:
    """Return the message; that of a KeyError without the quotes Python puts around it."""
    single = isinstance(error, KeyError) and len(error.args) == 1
    return str(error.args[0]) if single else str(error)


def _contains(outer: BaseException, inner: BaseException) -> bool:
    text = _text(inner)
    return text in _text(outer) or repr(text) in _text(outer)


def _to_log_file(error: BaseException) -> None:
    """Write the traceback into the log file of the run, where there is one yet."""
    logger = MMLogger.get_current_instance()
    where = ('', 0, 'the run ended by an error', (), (type(error), error, error.__traceback__))
    record = logger.makeRecord(logger.name, logging.ERROR, *where)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _full_disk(error: BaseException, cfg: Config | None) -> str | None:
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno in _FULL:
            break
    else:
        return None
    work_dir = cfg.get('work_dir') if cfg is not None else None
    place = Path(link.filename or work_dir or '.').absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**20
    newest = newest_checkpoint(work_dir, say=False) if work_dir else None
    then = f'; then --resume continues from {newest}' if newest else ''
    return (
        f'{_FULL[link.errno]}: {link.filename or place} cannot be written ({free:.0f} MB are free '
        f'there); make room{then}'
    )


def _wrong_path(error: BaseException) -> str | None:
    """Return the sentence for a path that is missing, of another kind, or not ours to use."""
    kinds = (
        *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError),
        PermissionError,
    )
    if isinstance(error, kinds) and error.filename and error.strerror:
        return f'{error.strerror}: {error.filename}'
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what caused it, the first cause last."""
    errors = [error]
    while (cause := errors[-1].__cause__ or errors[-1].__context__) and cause not in errors:
        errors.append(cause)
    return errors


def explain(error: BaseException, cfg: Config | None = None, splits: tuple = ()) -> str | None:
    """Turn a framework's failure into one sentence; None if there is nothing to add to it.

    Args:
        error: What was raised.
        cfg: The config, to look for the image that a decoder choked on.
        splits: The splits of the config in use.
    """
    text = str(error)
    if found := re.search(r'failed to load image: (.+)', text):
        return broken_image_sentence(found[1].strip(), 'it is no image that can be decoded')
    if 'imdecode' in text and cfg is not None:
        broken = find_broken_images(image_paths(cfg, splits))
        if broken:
            return broken_image_sentence(*next(iter(broken.items())))
    if found := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        hint = did_you_mean(found[2], _arguments(found[1], cfg))
        return f'the config gives {found[1]} an argument it does not have: {found[2]!r}{hint}'
    if found := re.search(r"set_randomness\(\) got an unexpected keyword argument '(\w+)'", text):
        from mmengine.runner import Runner

        hint = did_you_mean(found[1], inspect.signature(Runner.set_randomness).parameters)
        return f'randomness of the config has no key {found[1]!r}{hint}'
    if unscoped := _unscoped_name(text, cfg):
        return unscoped
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.strerror}: {error.filename}'
    return our_sentence(error)


def _unscoped_name(text: str, cfg: Config | None) -> str | None:
    """Return the sentence for one of mmattn's names written without its scope, or with another."""
    from mmattn.registry import MODELS

    MODELS.import_from_location()  # a config without our scope made nobody look
    found = re.search(r'(\S+) is not in the (\S+) registry', text)
    if found:
        wrong = found[1].strip('\'"').rpartition('.')[2]
    elif 'Cannot find None in registry' in text and cfg is not None:  # the host forgets the name
        wrong = next(
            (name for name in _types(cfg.get('model')) if name in MODELS.module_dict), None
        )
    else:
        return None
    close = closest(wrong or '', MODELS.module_dict, 1, sure=True)
    if not close:
        return None
    return f"type {wrong!r} is not known to the host: did you mean 'mmattn.{close[0]}'?"


def _arguments(name: str, cfg: Config | None) -> set[str]:
    """Return the arguments of a registered class, and of mmattn's in the config, which hand theirs
    on.
    """
    from mmengine.registry import MODELS

    from mmattn.registry import MODELS as OURS

    ours = {f'mmattn.{kind}' for kind in OURS.module_dict}
    wanted = {name, *(kind for kind in _types(cfg and cfg.get('model')) if kind in ours)}
    registries = [MODELS]
    for registry in registries:  # grows: the hosts' registries are children of the engine's
        registries.extend(registry.children.values())
    kinds = [
        kind
        for registry in registries
        for short, kind in registry.module_dict.items()
        if inspect.isclass(kind) and {short, f'{registry.scope}.{short}'} & wanted
    ]
    return {
        argument
        for kind in kinds
        for base in kind.__mro__
        for argument in inspect.signature(base.__init__).parameters
        if argument != 'self'
    }


def _types(cfg: object) -> list[str]:
    """Every ``type`` in a nested config."""
    if isinstance(cfg, dict):
        own = [cfg['type']] if isinstance(cfg.get('type'), str) else []
        return own + [name for value in cfg.values() for name in _types(value)]
    if isinstance(cfg, list | tuple):
        return [name for value in cfg for name in _types(value)]
    return []
