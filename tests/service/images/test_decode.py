"""Decoding by rule: depth, colour, transparency and orientation come out as they should."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from service.errors import Invalid, TooLarge, UnsupportedType
from service.images.data_uri import decode_base64
from service.images.decode import decode_image

RED = np.zeros((40, 60, 3), dtype=np.uint8)
RED[..., 0] = 255


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    return decode_image(data, max_bytes=1_000_000, max_pixels=1_000_000).pixels


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_gives_its_colours(kind):
    array = decode(encode(Image.fromarray(RED), kind))
    assert (array.shape, array.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(array.astype(int) - RED).max() <= 6  # lossy ones


def test_cmyk_jpeg():
    array = decode(encode(Image.fromarray(RED).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(array.astype(int) - RED).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_from_its_full_range(kind):
    wide = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    array = decode(encode(Image.fromarray(wide), kind))
    assert array[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (array[..., 0] == array[..., 2]).all()


def test_transparency_is_flattened_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    assert decode(encode(image)).tolist() == [[[255, 255, 255], [255, 0, 0]]]


def test_a_transparent_palette_is_flattened_on_white():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert (decode(encode(image, transparency=0)) == 255).all()
    assert (decode(encode(image)) == [10, 20, 30]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30] = 255
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that undoes each
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(turn[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = decode(encode(stored, "PNG", exif=exif))
    assert array.shape == upright.shape
    assert (array == upright).all()


def test_the_first_picture_of_a_phones_jpeg_is_taken():
    buffer = io.BytesIO()
    other = Image.new("RGB", (60, 40))
    Image.fromarray(RED).save(buffer, "MPO", save_all=True, append_images=[other])
    assert np.abs(decode(buffer.getvalue()).astype(int) - RED).max() <= 6


def test_limits_are_the_callers():
    data = encode(Image.fromarray(RED))
    assert decode_image(data, len(data), 2400).pixels.shape == (40, 60, 3)
    with pytest.raises(TooLarge, match="2399 pixels"):
        decode_image(data, len(data), 2399)
    with pytest.raises(TooLarge, match="bytes"):
        decode_image(data, len(data) - 1, 2400)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_no_damage_escapes(kind):
    """Bytes flipped or cut anywhere give an image or an error of ours, nothing else."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), kind)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        try:
            array = decode(bytes(damaged[: rng.integers(1, len(whole) + 1)]))
        except (Invalid, TooLarge, UnsupportedType):
            refused += 1
        else:
            assert array.dtype == np.uint8
    assert refused > 50


def test_base64_in_its_spellings():
    data = bytes(range(256))
    plain = base64.b64encode(data).decode()
    for text in (plain, "data:image/png;base64," + plain, "DATA:;BASE64," + plain, plain + "\n"):
        assert decode_base64(text, 256) == data
    lines = "\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))
    assert decode_base64(lines, 256) == data
