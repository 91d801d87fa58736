"""The encoder: as many strides as widths, and each image by itself."""

import pytest
import torch

from src.networks.encoder import Encoder


@pytest.mark.parametrize(("img_size", "n_widths", "side"), [(28, 2, 7), (32, 3, 4), (64, 4, 4)])
def test_the_number_of_widths_chooses_the_strides(img_size: int, n_widths: int, side: int) -> None:
    encoder = Encoder(
        n_classes=3, latent_dim=5, channels=3, img_size=img_size, widths=[8] * n_widths, hidden=6
    )
    assert encoder.hidden.in_features == 8 * side**2
    images, labels = torch.randn(4, 3, img_size, img_size), torch.tensor([0, 1, 2, 1])
    latents = encoder(images, labels)
    assert latents.shape == (4, 10)
    torch.testing.assert_close(latents[2:], encoder(images[2:], labels[2:]))
