"""Table 4: batch 128. The learning rate stays, since that of the paper is not known."""

_base_ = './resnet50_1xb64-100e_in1k.py'

train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=128)
