"""The device a network runs on."""

import torch

__all__ = ['choose_device']


def choose_device(device: torch.device | str | None = None) -> torch.device:
    """Return the device that a user names, or the best there is.

    Args:
        device: As torch names it (``'cpu'``, ``'cuda:1'``); None: cuda where there is one, else
            cpu. ``'cuda'`` alone is the current one.

    Raises:
        ValueError: It is not known, holds no values, or is not there.
        TypeError: It is no name.
    """
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f'device must be a name or a torch.device, got {device!r}')
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f'device: {device!r} is not known to torch') from error
    if found.type == 'meta':
        raise ValueError('device: meta holds no values; use cpu or cuda')
    try:
        return torch.empty(0, device=found).device
    except Exception as error:  # each backend has its own words for what is missing
        raise ValueError(f'device: {device} is not there; use cpu') from error
