"""WS-DAN on one-digit scenes, from scratch, minutes on a CPU."""

_base_ = './td-resnet18-joint-t2m2_20e_one-digit.py'

model = dict(
    type='mmattn.WSDAN',
    neck=None,
    head=dict(
        _delete_=True,
        type='mmattn.WSDANHead',
        num_classes=10,
        in_channels=128,
        maps=8,
        topk=(1,),
    ),
)
