"""Gates on output maps that no neck reads."""

from mmengine.config import Config

from mmattn.insertion.networks import Network, is_attend

__all__ = ['unread_gates']


def unread_gates(cfg: Config) -> list[str]:
    """Say which gates of a backbone stand on output maps that its neck does not read.

    ``mmattn.Attend`` cannot see the neck, so without ``levels`` it gates every output. A gate on
    a map that nothing reads gets no gradient, and distributed training stops at it.
    :func:`mmattn.add_attention` names the levels that are read.

    Args:
        cfg: a config with a model.

    Returns:
        A sentence for each rule; nothing where the backbone is no ``Attend``, there is no neck, or
        one of them does not run here.
    """
    if 'Attend' not in str(cfg.get('model')):
        return []
    network = Network(cfg)
    part = network.part('backbone')
    if part is None or not is_attend(part) or not network.necks():
        return []
    rules = [
        rule for rule in part.get('attention') or () if 'gate' in rule and 'after' not in rule
    ]
    if not rules or not network.trace('backbone').gives_maps:
        return []
    everything = range(len(network.trace('backbone').outputs))
    read = network.read_levels()
    found = []
    for rule in rules:
        unread = sorted(set(rule.get('levels') or everything) - set(read))
        if unread:
            found.append(
                f'model.backbone: {rule["gate"]["type"]} stands on the output maps '
                f'{tuple(unread)}, which the neck does not read, so it gets no gradient there and '
                f'distributed training would stop: set levels={tuple(read)} in its rule'
            )
    return found
