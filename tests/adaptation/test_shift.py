"""Fréchet's distance against its definition, and what a shift says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from adaptation import detectors
from adaptation.shift import classifier_features, detector_features, frechet, measure_shift
from adaptation.shift.measure import covariance
from robustkit import data, models
from robustkit.data.detection import load_detection
from robustkit.errors import DataError, ModelError


def clouds(count: int, size: int, apart: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, size)) @ rng.standard_normal((size, size)) + apart


@pytest.mark.parametrize(("count", "size"), [(60, 3), (400, 20)])
def test_the_distance_is_the_definitions(count: int, size: int) -> None:
    first, second = clouds(count, size), clouds(count, size, apart=0.3, seed=1)
    a, b = (np.cov(each, rowvar=False) for each in (first, second))
    root = linalg.sqrtm(a @ b)
    apart = first.mean(axis=0) - second.mean(axis=0)
    expected = apart @ apart + np.trace(a + b - 2 * root.real)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet(first, second) == pytest.approx(frechet(second, first), rel=1e-9)


def test_of_two_normals_along_axes() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((200_000, 2)) * [1.0, 2.0]
    second = rng.standard_normal((200_000, 2)) * [3.0, 2.0] + [4.0, 0.0]
    assert frechet(first, second) == pytest.approx(4**2 + (3 - 1) ** 2, rel=0.02)


def test_a_cloud_is_at_no_distance_from_itself() -> None:
    for count, size in ((50, 4), (10, 30)):
        cloud = clouds(count, size)
        assert frechet(cloud, cloud) == pytest.approx(0, abs=1e-8 * np.square(cloud).sum())


def test_few_images_get_a_shrunk_covariance() -> None:
    few = clouds(12, 10)
    assert np.linalg.matrix_rank(covariance(few)) == 10
    many = clouds(400, 10)
    np.testing.assert_allclose(covariance(many), np.cov(many, rowvar=False))


@pytest.mark.parametrize(("count", "size"), [(20, 300), (40, 60), (30, 31)])
def test_shrunk_covariances_are_the_publications(count: int, size: int) -> None:
    from sklearn.covariance import ledoit_wolf

    first, second = clouds(count, size), clouds(count + 3, size, apart=0.2, seed=1)
    a, b = (ledoit_wolf(each)[0] for each in (first, second))
    np.testing.assert_allclose(covariance(first), a, rtol=1e-9, atol=1e-9)
    apart = first.mean(axis=0) - second.mean(axis=0)
    expected = apart @ apart + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "cannot be compared"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "two images of each"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "not finite"),
    ],
)
def test_features_that_have_no_distance(first: np.ndarray, second: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        frechet(first, second)


def test_the_ratio_is_one_within_a_domain_and_grows_with_the_distance() -> None:
    source = clouds(400, 6)
    rng = np.random.default_rng(7)
    mixed = rng.permutation(np.concatenate([source, clouds(400, 6)]))
    ratios = []
    for apart in (0.0, 0.5, 2.0):
        found = measure_shift(mixed[:400], mixed[400:] + apart, draws=40)
        assert found.low <= found.ratio <= found.high
        assert (found.images, found.cloud) == ((400, 400), 100)
        ratios.append(found.ratio)
    assert 0.4 < ratios[0] < 2.5
    assert ratios[0] < ratios[1] < ratios[2]
    again = measure_shift(mixed[:400], mixed[400:] + 2.0, draws=40)
    assert again.ratio == ratios[2]
    assert measure_shift(mixed[:400], mixed[400:] + 2.0, draws=40, seed=1).ratio != ratios[2]


def test_no_image_is_in_both_clouds() -> None:
    source = clouds(200, 5)
    names = [f"{number}.jpg" for number in range(200)]
    itself = measure_shift(source, source, names=(names, names), draws=10)
    assert itself.low == itself.ratio == itself.high == 1
    # In another order, with some images more: those that both have are still kept apart.
    order = np.random.default_rng(0).permutation(200)
    turned = ([names[row] for row in order], source[order])
    assert measure_shift(source, turned[1], names=(names, turned[0]), draws=10).ratio == 1
    unaware = measure_shift(source, source, draws=10)
    assert unaware.ratio < 0.95  # parts that share images are nearer than parts that do not
    # Half of the images in both: clouds of the ratio and of its interval have one size.
    part = measure_shift(source, source[:100], names=(names, names[:100]), draws=20)
    assert part.cloud == 25
    assert part.low <= part.ratio <= part.high
    with pytest.raises(DataError, match="eight where domains share images"):
        measure_shift(source, source[:7], names=(names, names[:7]))
    with pytest.raises(DataError, match="names of 200 and 3 images"):
        measure_shift(source, source, names=(names, names[:3]))


def test_the_threshold_decides() -> None:
    source, target = clouds(100, 4), clouds(100, 4, apart=1.0, seed=3)
    advice = [
        measure_shift(source, target, threshold=threshold, draws=10).advice
        for threshold in (1e-6, 1e6)
    ]
    assert advice == [
        "adversarial training is likely to pay",
        "plain training is likely to do as well",
    ]
    with pytest.raises(DataError, match="eight source images"):
        measure_shift(source[:7], target)


def test_the_ratio_does_not_grow_with_the_number_of_images() -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for count in (400, 4000):
        source, target = rng.standard_normal((2, count, 8))
        ratios.append(measure_shift(source, target + 0.5, draws=4).ratio)
    assert ratios[1] == pytest.approx(ratios[0], rel=0.25)


def test_features_that_do_not_vary_have_no_ratio() -> None:
    with pytest.raises(DataError, match="do not vary"):
        measure_shift(np.ones((40, 3)), clouds(40, 3), draws=2)


def test_features_are_what_the_docs_say() -> None:
    images = load_detection("shapes:fog:5?side=64", "test")
    model = detectors.build("tiny_ssd?side=64&width=16", images.classes, seed=0).train()
    found = detector_features(model, images)
    assert model.training
    pixels = [images.image(row).float() / 255 for row in range(5)]
    coarsest = list(model.eval().features(pixels).values())[-1]
    np.testing.assert_allclose(found, coarsest.mean((2, 3)).detach(), rtol=1e-5)

    digits = data.load("digits").test.subset(torch.arange(40))
    classifier = models.build("small", num_classes=10, in_channels=1, image_size=16, seed=0).eval()
    features = classifier_features(classifier, digits)
    last = [each for each in classifier.modules() if isinstance(each, torch.nn.Linear)][-1]
    logits = last(torch.from_numpy(features).float())
    torch.testing.assert_close(logits, classifier(digits.floats()))


def test_shrunk_covariances_of_wide_features_have_a_distance() -> None:
    """Hundreds of their eigenvalues are equal, on which LAPACK's default driver may fail."""
    model = models.build("small", num_classes=4, in_channels=3, image_size=32, seed=0)
    pixels = torch.randint(256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    noise = data.ImageSet(pixels.byte(), torch.arange(40) % 4, ("a", "b", "c", "d"))
    features = classifier_features(model.eval(), noise)
    for draw in range(6):
        order = np.random.default_rng(draw).permutation(40)
        assert np.isfinite(frechet(features[order[:10]], features[order[10:20]]))


def test_a_source_that_hardly_varies_is_refused() -> None:
    source = np.zeros((400, 3))
    source[0] = 1
    with pytest.raises(DataError, match=r"look alike|do not vary"):
        measure_shift(source, np.random.default_rng(0).standard_normal((400, 3)))


def test_a_classifier_without_a_linear_layer_is_refused() -> None:
    model = models.build("torchvision:squeezenet1_1", num_classes=10, in_channels=3, image_size=32)
    images = data.load("digits").test
    with pytest.raises(ModelError, match="without a linear layer"):
        classifier_features(model, images)
