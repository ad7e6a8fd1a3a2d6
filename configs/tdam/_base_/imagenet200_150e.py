"""The recipe of imagenet_150e.py on 200 classes, for the ablations."""

_base_ = './imagenet_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# which 200 classes the paper took is not known: every fifth here
model = dict(head=dict(num_classes=200))
data_preprocessor = dict(num_classes=200)
subset = dict(type='mmattn.ImageNetSubset', number=200)
train_dataloader = dict(dataset=subset)
val_dataloader = dict(dataset=subset)
test_dataloader = dict(dataset=subset)
