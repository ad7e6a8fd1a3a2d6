"""SSD's head, able to predict."""

from mmdet.models.dense_heads import SSDHead as HostSSDHead

from mmattn.registry import MODELS

__all__ = ['SSDHead']


@MODELS.register_module()
class SSDHead(HostSSDHead):
    """mmdet's ``SSDHead`` without the fault that stops it at the first prediction.

    Since mmdet 3.2 every dense head is asked for its ``loss_cls`` when it predicts. ``SSDHead``
    has none, so the stock SSD configs train and then end with "'SSDHead' object has no attribute
    'loss_cls'" (mmdetection issues 11063, 11305, 11780). Here it is ``None``, which means softmax
    scores, as before 3.2; a host that sets one keeps it. No parameter and no number changes.

    Args:
        kwargs: every argument of mmdet's ``SSDHead``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if not hasattr(self, 'loss_cls'):
            self.loss_cls = None
