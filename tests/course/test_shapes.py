"""The drawn images are the same each time, and are read as a folder of classes."""

import pytest
import torch

from pixelprior.course.shapes import draw_shapes
from pixelprior.data.images import load_images


def bytes_of(paths):
    return [path.read_bytes() for path in paths]


def test_a_seed_gives_the_same_images_and_leaves_the_random_numbers_alone(tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    first, again = (draw_shapes(tmp_path / name, 7) for name in ("a", "b"))
    other = draw_shapes(tmp_path / "c", 7, seed=1)
    assert torch.equal(torch.rand(3), wanted)
    assert bytes_of(first) == bytes_of(again) != bytes_of(other)


def test_the_classes_take_turns_and_the_loader_finds_them(tmp_path):
    paths = draw_shapes(tmp_path, 31)
    assert paths == sorted(tmp_path.rglob("*.png")) and len(paths) == 31
    train, test = (
        load_images("imagefolder", split, data_root=tmp_path, image_size=16)
        for split in ("train", "test")
    )
    assert train.class_names == ("disc", "ring", "square")
    assert len(train) + len(test) == 31
    counts = torch.cat([train.labels, test.labels]).bincount().tolist()
    assert counts == [11, 10, 10]


def test_a_ring_has_a_hole_and_a_square_has_corners(tmp_path):
    draw_shapes(tmp_path, 30)
    data = load_images("imagefolder", data_root=tmp_path, image_size=40)
    for image, label in zip(data.images.float() / 255, data.labels, strict=True):
        inside = image.amax(0) > 0.5  # [40, 40]
        rows, columns = inside.any(1).nonzero(), inside.any(0).nonzero()
        (top, bottom), (left, right) = (
            (line.min().item(), line.max().item()) for line in (rows, columns)
        )
        middle = inside[(top + bottom) // 2, (left + right) // 2]
        name = data.class_names[label]
        assert middle == (name != "ring")
        assert inside[top, left] == (name == "square")


def test_no_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="count is 0"):
        draw_shapes(tmp_path, 0)
