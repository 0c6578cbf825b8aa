"""Random changes of training samples: the usual amount of each is strength 1.

| name | what strength 1 does |
| --- | --- |
| `flip` | mirrors half of the images, left to right; has no strength |
| `rotate` | turns by up to 15 degrees either way |
| `scale_crop` | cuts out a half to all of the area, sides 3:4 to 4:3 to each other, and scales it back to size |
| `shift` | moves by up to an eighth of each side, as padding CIFAR images by 4 and cropping does |
| `colour` | changes brightness, contrast and saturation by up to 0.4 |
| `cutout` | blanks a square of half the shorter side |
| `mixup` | mixes two samples and their labels, by Beta(0.2, 0.2) |
| `token_mask` | hides 15% of the tokens |
| `token_delete` | deletes 10% of the tokens |
| `time_shift` | moves a spectrogram by up to a tenth of its length |
| `noise` | adds noise of a tenth of a deviation |
| `spec_augment` | blanks two bands of up to 20% of the pitches and two of up to 10% of the time |

All work on normalized samples, where 0 is the mean. What is drawn for a sample depends on the seed and on how many samples
were seen before it, on nothing else: a run that goes on sees the same, and so does one that splits its batches otherwise, but
for `mixup`, whose partner is a neighbour in the (micro-)batch.
"""

from kleiber.data.augment.augmentation import AUGMENTATIONS, augment, check_augment

__all__ = ["AUGMENTATIONS", "augment", "check_augment"]
