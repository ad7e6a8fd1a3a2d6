"""Table 4: batch 256 and SSIA. The learning rate stays, since that of the paper is not known."""

_base_ = './resnet50-ssia_1xb64-100e_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=256)
