"""The presets are whole, and their names lead where they should."""

from __future__ import annotations

import pytest

from imagesearch.models import catalogue
from imagesearch.models.catalogue import PRESETS, ModelSpec


@pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)
def test_a_preset_says_what_one_wants_to_know(spec: ModelSpec) -> None:
    assert spec.dim > 0
    assert spec.input_size > 0
    assert spec.parameters > 0
    assert spec.licence
    assert spec.good_for
    assert (spec.download_mb == 0) == (spec.preset == "starter")
    assert catalogue.features_checkpoint(spec.preset) == spec.features
    assert catalogue.labels_checkpoint(spec.preset, None) == spec.labels


def test_the_originals_two_models_are_vit() -> None:
    assert catalogue.features_checkpoint("vit") == "google/vit-base-patch16-224-in21k"
    assert catalogue.labels_checkpoint("vit", None) == "google/vit-base-patch16-224"


def test_other_names_are_themselves() -> None:
    assert catalogue.features_checkpoint("org/name") == "org/name"
    assert catalogue.labels_checkpoint("org/name", None) == "org/name"
    assert catalogue.labels_checkpoint("starter", "org/labels") == "org/labels"
    assert catalogue.labels_checkpoint("clip", "vit") == "google/vit-base-patch16-224"
    assert catalogue.labels_checkpoint("clip", None) is None


def test_collections_of_two_presets_never_meet() -> None:
    slugs = [catalogue.slug(name) for name in PRESETS]
    assert len(set(slugs)) == len(slugs)
    assert all(slug.isidentifier() for slug in slugs)
    assert catalogue.slug("/models/näive ü") == "n_ive"
