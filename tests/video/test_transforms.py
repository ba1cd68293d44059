import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import vie_models as vie
from vie_models.video.color_jitter import change_colors, change_colors_affinely, draw_colors
from vie_models.video.transforms import MULTI_SCALES, train_transform

SPEC = vie.ClipSpec(num_frames=3, resize=128, crop=112)
RECIPES = ("color_jitter", "multi_scale_crop", "random_crop")
"""Those that are torchvision's to the bit."""


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(frames: int = 3, height: int = 120, width: int = 160) -> torch.Tensor:
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8)


def pixels(x: torch.Tensor) -> torch.Tensor:
    """What the transform normalized, back in [0, 1]."""
    return x * torch.tensor(SPEC.std)[:, None, None, None] + torch.tensor(SPEC.mean)[:, None, None, None]


def test_evaluation_equals_pil():
    frame = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)).resize((320, 240))
    clip = torch.from_numpy(np.array(frame))[None].repeat(2, 1, 1, 1)
    transform = vie.clip_transform(SPEC)
    x = transform(clip)
    assert x.shape == (3, 2, 112, 112)
    assert x.dtype == torch.float32
    small = frame.resize((170, 128), Image.Resampling.BILINEAR).crop((29, 8, 141, 120))
    difference = np.abs(pixels(x)[:, 1].permute(1, 2, 0).numpy() * 255 - np.asarray(small))
    assert difference.max() <= 3
    assert difference.mean() <= 1
    assert torch.equal(transform(clip.numpy()), x)
    assert torch.equal(transform(clip.permute(0, 3, 1, 2)), x)  # as torchcodec gives it
    assert torch.equal(pickle.loads(pickle.dumps(transform))(clip), x)


@pytest.mark.parametrize("bad", [noise().float(), noise()[0], noise().permute(3, 0, 1, 2)[:, :2], noise()[:0]])
def test_what_is_no_clip_is_named(bad):
    for transform in (vie.clip_transform(SPEC), train_transform(SPEC)):
        with pytest.raises(ValueError, match=r"uint8 \[T, H, W, 3\] or \[T, 3, H, W\], got"):
            transform(bad)


@pytest.mark.parametrize("recipe", [*RECIPES, "affine_jitter", "resized_crop"])
def test_a_draw_is_the_generators_and_the_whole_clips(recipe):
    transform = pickle.loads(pickle.dumps(train_transform(SPEC, recipe)))
    clip = noise(1).repeat(3, 1, 1, 1)
    state = torch.get_rng_state()
    views = [transform(clip, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state), "a draw from a generator leaves torch's own alone"
    assert views[0].shape == (3, 3, 112, 112)
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    for view in views:
        torch.testing.assert_close(view[:, 0], view[:, 2])
    assert not torch.equal(transform(clip), transform(clip))


def test_color_jitter_recipe_has_the_original_rates():
    transform = train_transform(SPEC)
    clip = torch.zeros(1, 128, 160, 3, dtype=torch.uint8)
    clip[..., 0] = torch.arange(100, 180, dtype=torch.uint8).repeat_interleave(2)  # red rises to the right
    views = [pixels(transform(clip, seeded(k)))[:, 0] for k in range(300)]
    gray = sum(torch.allclose(v[0], v[1], atol=1e-3) and torch.allclose(v[0], v[2], atol=1e-3) for v in views)
    mirrored = sum(bool(v.sum(0)[:, 0].mean() > v.sum(0)[:, -1].mean()) for v in views)
    assert gray / 300 == pytest.approx(0.3, abs=0.1)
    assert mirrored / 300 == pytest.approx(0.5, abs=0.1)


def test_multi_scale_crop_takes_corners_and_center_at_five_scales():
    height, width = 100, 140
    clip = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    clip[..., 0] = torch.arange(width, dtype=torch.uint8)  # red is the column, green the row
    clip[..., 1] = torch.arange(height, dtype=torch.uint8)[:, None]
    seen = set()
    for seed in range(400):
        view = pixels(train_transform(SPEC, "multi_scale_crop")(clip, seeded(seed)))[:, 0] * 255
        row, columns = view[1, :, 0], view[0, 0]
        side = (row[-1] - row[0]).item() * 112 / 111
        seen.add((round(side / height, 1), round(row.mean().item() / height, 1), round(columns.mean().item() / width, 1)))
    assert {side for side, _, _ in seen} == {round(scale, 1) for scale in MULTI_SCALES}
    assert len(seen) > 15


def test_unknown_recipe_is_named():
    with pytest.raises(ValueError, match=r"recipe must be one of color_jitter, .*, random_crop, got 'randaugment'"):
        train_transform(SPEC, "randaugment")


def test_random_crop_keeps_colors():
    clip = torch.tensor([200, 40, 90], dtype=torch.uint8).expand(3, 120, 160, 3)
    for seed in range(5):
        view = pixels(train_transform(SPEC, "random_crop")(clip, seeded(seed))) * 255
        assert (view - torch.tensor([200.0, 40, 90])[:, None, None, None]).abs().max() < 1


def torchvision_recipe(recipe: str) -> v2.Compose:
    """The recipes as torchvision's own transforms."""

    def multi_scale_crop(frames):
        height, width = frames.shape[-2:]
        side = round(min(height, width) * MULTI_SCALES[int(torch.randint(len(MULTI_SCALES), ()))])
        down, right = height - side, width - side
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        top, left = corners[int(torch.randint(len(corners), ()))]
        return v2.functional.resized_crop(frames, top, left, side, side, [SPEC.crop, SPEC.crop], antialias=True)

    colors = [v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4), v2.RandomGrayscale(0.3)]
    lengths = list(range(SPEC.crop * 8 // 7, SPEC.crop * 10 // 7 + 1))
    resized = [v2.RandomShortestSize(lengths, antialias=True), v2.RandomCrop(SPEC.crop)]
    steps = [multi_scale_crop] if recipe == "multi_scale_crop" else resized
    return v2.Compose([*steps, *(colors if recipe == "color_jitter" else []), v2.RandomHorizontalFlip(0.5)])


def colored(height: int, width: int) -> torch.Tensor:
    """Smooth colors in the first frame, saturated noise in the second, grays and black in the third."""
    rows, columns = torch.linspace(0, 255, height)[:, None], torch.linspace(0, 255, width)
    smooth = torch.stack([rows.expand(-1, width), columns.expand(height, -1), (rows + columns) / 2], dim=-1)
    gray = torch.randint(0, 40, (height, width, 1)).expand(-1, -1, 3)
    return torch.stack([smooth.byte(), torch.randint(0, 256, (height, width, 3)).byte(), gray.byte()])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", [(128, 170), (200, 130), (112, 112)])
def test_views_are_torchvisions_on_the_same_draws(recipe, size):
    ours, theirs = train_transform(SPEC, recipe), torchvision_recipe(recipe)
    clip = colored(*size)
    differing = 0.0
    for seed in range(40):
        view = ours.crop(clip, seeded(seed))
        torch.manual_seed(int(torch.randint(2**62, (), generator=seeded(seed))))
        difference = (view.int() - theirs(clip.permute(0, 3, 1, 2)).int()).abs()
        assert difference.max() <= 2
        differing += float((difference > 0).float().mean()) / 40
    assert differing < 1e-4


@pytest.mark.parametrize("change", [change_colors, change_colors_affinely])
def test_colors_of_many_clips_are_those_of_each(change):
    clips = [colored(64, 64).permute(0, 3, 1, 2).contiguous() for _ in range(9)]
    draws = torch.tensor([draw_colors(seeded(k)) for k in range(9)], dtype=torch.float64)
    together = torch.cat(clips)
    change(together, draws)
    for k, clip in enumerate(clips):
        change(clip, draws[k : k + 1])
        assert torch.equal(together[3 * k : 3 * k + 3], clip)


def test_affine_colors_are_almost_torchvisions():
    """Where nothing leaves the range of colors, the only difference is that hue turns in YIQ and not in HSV."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(90, 160, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    for k in range(20):
        draws = torch.tensor([draw_colors(seeded(k))], dtype=torch.float64)
        draws[:, 4:7] = 1 + 0.2 * (draws[:, 4:7] - 1)
        for hue, most in ((float(draws[0, 7]), 13), (0.0, 4)):  # the other way round, hue would differ by 20
            draws[0, 7] = hue
            exact, affine = frames.clone(), frames.clone()
            change_colors(exact, draws)
            change_colors_affinely(affine, draws)
            assert (exact.int() - affine.int()).abs().float().mean() <= most


def test_resized_crops_show_a_fifth_to_all():
    """A frame whose colors are its coordinates says what was cut out of it."""
    rows, columns = torch.arange(80)[:, None].expand(80, 120), torch.arange(120).expand(80, 120)
    clip = torch.stack([rows, columns, torch.zeros(80, 120)], -1)[None].byte()
    transform, shares = train_transform(SPEC, "resized_crop"), []
    for seed in range(200):
        view, _ = transform.view(clip, seeded(seed))
        height, width = (float(view[0, channel].max()) - float(view[0, channel].min()) + 2 for channel in (0, 1))
        assert view.shape == (1, 3, SPEC.crop, SPEC.crop)
        assert 0.55 < width / height < 1.8
        shares.append(height * width / (80 * 120))
    assert min(shares) == pytest.approx(0.2, abs=0.05)
    assert max(shares) > 0.85
