import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.stats import chi2

from probes.errors import TrainingError
from probes.fit.domain import fit_domain
from probes.model.probe import LinearProbe
from probes.signals.domain import DomainModel, measure_domain
from probes.signals.image_features import IMAGE_FEATURES, image_features
from probes.signals.question import QuestionModel
from probes.types import Domain, FloatArray, ImageArray, ImageDomain, Missing, Query, Trace

FEATURES = len(IMAGE_FEATURES)
NO_QUESTIONS = Missing("no_question_side")


def features(image: ImageArray) -> dict[str, float]:
    return dict(zip(IMAGE_FEATURES, image_features(image).tolist(), strict=True))


def noise(side: int = 128) -> ImageArray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_a_flat_red_image_by_hand() -> None:
    found = features(np.full((64, 256, 3), (255, 0, 0), dtype=np.uint8))
    assert found["log2_size"] == pytest.approx(7)
    assert found["log2_aspect"] == pytest.approx(2)
    for name in ("brightness", "shadows", "highlights"):
        assert found[name] == pytest.approx(0.299, abs=1e-5)
    assert found["red_green"] == pytest.approx(1)
    assert found["yellow_blue"] == pytest.approx(0.5)
    for name in ("contrast", "colourfulness", "vignette"):
        assert found[name] == pytest.approx(0, abs=1e-5)
    assert found["log2_texture_0"] == pytest.approx(-10, abs=0.01)
    assert found["sparsity"] == 1


def test_blur_takes_away_fine_texture_first() -> None:
    sharp = noise()
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(1.5)))
    before, after = features(sharp), features(blurred)
    fine = before["log2_texture_0"] - after["log2_texture_0"]
    coarse = before["log2_texture_3"] - after["log2_texture_3"]
    assert fine > 2
    assert coarse < fine / 2


def test_exposure_moves_brightness() -> None:
    dark = features(noise() // 4)
    assert dark["brightness"] < 0.2 < features(noise())["brightness"]
    assert dark["highlights"] < 0.25


def test_only_the_size_feature_knows_the_resolution() -> None:
    small = noise(32).repeat(8, axis=0).repeat(8, axis=1)
    for factor in (2, 8):
        large = small.repeat(factor, axis=0).repeat(factor, axis=1)
        difference = image_features(large) - image_features(small)
        assert difference[0] == pytest.approx(np.log2(factor))
        np.testing.assert_allclose(difference[1:], 0, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3, 2)])
def test_tiny_images_give_numbers(shape: tuple[int, int]) -> None:
    assert np.isfinite(image_features(np.zeros((*shape, 3), dtype=np.uint8))).all()


def test_distances_of_a_normal_cloud_are_chi_distributed() -> None:
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(FEATURES, FEATURES)) * 2
    points = rng.normal(size=(20_000, FEATURES)) @ mix
    model = fit_domain(points[:10_000], quantile=0.95)
    fresh = model.distance(points[10_000:])
    expected = np.sqrt(chi2(FEATURES).median())
    assert np.median(fresh) == pytest.approx(expected, rel=0.05)
    assert (fresh <= model.limit).mean() == pytest.approx(0.95, abs=0.01)


def test_the_limit_holds_for_new_images_after_few() -> None:
    rng = np.random.default_rng(3)
    images = rng.standard_t(5, size=(4000, FEATURES))
    seen = np.repeat(images[:200], 3, axis=0)  # three questions on each image
    model = fit_domain(seen, quantile=0.95)
    new = model.distance(images[200:])
    assert (new <= model.limit).mean() == pytest.approx(0.95, abs=0.025)


def test_a_constant_feature_forgives_a_small_change_and_not_a_large_one() -> None:
    rng = np.random.default_rng(2)
    images = rng.normal(size=(1000, FEATURES))
    images[:, 0] = 8.0  # every image of one size
    model = fit_domain(images, quantile=0.95)
    point = model.mean[np.newaxis].copy()
    assert model.distance(point)[0] == pytest.approx(0, abs=1e-6)
    point[0, 0] = 8.5
    assert model.distance(point)[0] == pytest.approx(1, rel=0.1)
    point[0, 0] = 13
    assert model.distance(point)[0] > model.limit


def test_too_few_requests() -> None:
    with pytest.raises(TrainingError, match="collect at least"):
        fit_domain(np.zeros((20, FEATURES)), 0.95)


def test_measure_domain_joins_both_parts() -> None:
    probe = LinearProbe(
        layer=1,
        position="prompt_last",
        weights=np.ones(2),
        intercept=0.0,
        mean=np.array([1.0, 1.0]),
        scale=np.ones(2),
        components=np.array([[0.0, 1.0]]),
    )
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    mean = np.concatenate([[2.0], image_features(image)])
    domain = DomainModel(mean=mean, precision=np.eye(1 + FEATURES), limit=3.0, latent=1)

    query = Query(image, "Is it whole?")

    def measured(value: float) -> Domain | Missing:
        readouts = {(1, "prompt_last"): np.array([0.0, value])}
        trace = Trace(np.empty(0), 0.0, 0.0, readouts)
        return measure_domain(query, trace, probe, domain, NO_QUESTIONS)

    def image_side(distance: float, inside: bool) -> Domain:
        near = pytest.approx(distance, abs=1e-6)
        return Domain((ImageDomain(near, inside),), NO_QUESTIONS)

    # The latent coordinate is the value less the probe's mean, 1; the domain's mean is 2.
    assert measured(3.0) == image_side(0, True)
    assert measured(6.0) == image_side(3.0, True)
    assert measured(6.5) == image_side(3.5, False)
    empty = Trace(np.empty(0), 0.0, 0.0, {(1, "prompt_last"): Missing("engine_error")})
    found = measure_domain(query, empty, probe, domain, NO_QUESTIONS)
    assert found == Missing("engine_error")
    asked = QuestionModel(("Is it bent?",), (1,), 0.0, "exact")
    trace = Trace(np.empty(0), 0.0, 0.0, {(1, "prompt_last"): np.array([0.0, 3.0])})
    both = measure_domain(query, trace, probe, domain, asked)
    assert isinstance(both, Domain)
    assert (both.part, both.inside, both.images[0].inside) == ("question", False, True)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (97, 131), (128, 128), (256, 256), (600, 520)])
def test_percentiles_taken_one_by_one_are_the_same_to_the_last_bit(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = image_features(image)
    step = max(1, min(shape) // 256)
    picture = Image.fromarray(image[::step, ::step]).resize((128, 128), Image.Resampling.BOX)
    red, green, blue = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = np.partition(luma, [819, 15564], axis=None)[[819, 15564]].astype(np.float64)
    places = [IMAGE_FEATURES.index(name) for name in ("shadows", "highlights")]
    assert found[places].tobytes() == expected.tobytes()


@pytest.mark.parametrize("wide", [5, 17, 31])
def test_the_distance_of_one_is_the_same_to_the_last_bit(wide: int) -> None:
    rng = np.random.default_rng(wide)
    mix = rng.normal(size=(wide, wide))
    model = DomainModel(rng.normal(size=wide), mix @ mix.T, 1.0, 2)
    for point in rng.normal(size=(50, 1, wide)):
        centred = point - model.mean
        squared = np.einsum("ni,ij,nj->n", centred, model.precision, centred, optimize=True)
        assert model.distance(point).tobytes() == np.sqrt(np.maximum(squared, 0.0)).tobytes()


def test_features_known_ahead_are_the_ones_used() -> None:
    probe = LinearProbe(
        layer=1,
        position="prompt_last",
        weights=np.ones(2),
        intercept=0.0,
        mean=np.zeros(2),
        scale=np.ones(2),
        components=np.array([[0.0, 1.0]]),
    )
    image = noise(16)
    domain = DomainModel(np.zeros(1 + FEATURES), np.eye(1 + FEATURES), 9.0, 1)
    trace = Trace(np.empty(0), 0.0, 0.0, {(1, "prompt_last"): np.array([0.0, 1.0])})

    def measured(features: FloatArray | None) -> Domain | Missing:
        query = Query(image, "Is it whole?", features=features)
        return measure_domain(query, trace, probe, domain, NO_QUESTIONS)

    assert measured(image_features(image)) == measured(None)
    assert measured(np.zeros(FEATURES)) != measured(None)
