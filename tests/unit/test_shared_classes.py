"""Which classes count as the same; ImageNet's under each of the names that they go by."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.data.dataset import Data, unnamed_classes
from engine.data.shared_classes import about_classes, knows_all, rows_kept_by_name, same_classes, wnid_advice
from engine.models.class_names import imagenet_names
from engine.pruning.surgery import tell_classes, with_classes_of
from tests.conftest import make_network

WNIDS = tuple(f"n{1440764 + 17 * index:08d}" for index in range(1000))


def with_synonyms(names: tuple[str, ...]) -> tuple[str, ...]:
    """As the Hugging Face hub calls them, its odd ones included."""
    odd = {134: "crane", 517: "crane2", 639: "maillot, tank suit"}
    return tuple(odd.get(index, f"{name}, {name[0].upper()}. {name}") for index, name in enumerate(names))


@pytest.mark.parametrize("data_names", [unnamed_classes(1000), WNIDS, with_synonyms(imagenet_names())])
def test_imagenet_is_known_by_each_of_its_names(data_names):
    assert same_classes(imagenet_names(), data_names) and same_classes(data_names, imagenet_names())
    assert knows_all(imagenet_names(), data_names)


@pytest.mark.parametrize(
    "data_names",
    [
        unnamed_classes(999),
        WNIDS[:100],
        (WNIDS[1], WNIDS[0], *WNIDS[2:]),
        (*WNIDS[:999], WNIDS[998]),
        ("n1", *WNIDS[1:]),
        tuple(sorted(imagenet_names())),
    ],
)
def test_other_thousands_are_not_taken_for_imagenet(data_names):
    assert not same_classes(imagenet_names(), data_names)


def test_two_lists_of_wordnet_ids_are_the_same_only_where_they_are_equal():
    assert same_classes(WNIDS, WNIDS) and not same_classes(WNIDS, ("n00000001", *WNIDS[1:]))


def test_small_lists_agree_name_by_name():
    assert same_classes(("Cat", "dog"), ("cat, Felis catus", "Dog"))
    assert same_classes(("cat", "dog"), ("class 0", "class 1")) and same_classes(("class 0", "class 1"), ("cat", "dog"))
    assert not same_classes(("cat", "dog"), ("dog", "cat")) and knows_all(("cat", "dog"), ("dog", "cat"))
    assert not same_classes(("cat", "dog"), ("cat", "cow")) and not knows_all(("cat", "dog"), ("cat", "cow"))


def test_rows_are_found_by_synonyms_of_either_side_and_go_to_one_class_each():
    assert rows_kept_by_name(("tench", "goldfish"), ("Tinca tinca, tench", "newt", "goldfish")) == {0: 0, 2: 1}
    assert rows_kept_by_name(("Cardigan", "cardigan"), ("cardigan", "corgi")) == {0: 1}
    assert rows_kept_by_name(("missile", "projectile, missile"), ("projectile, missile", "missile")) == {0: 1, 1: 0}
    assert rows_kept_by_name(("crane",), ("crane, bird", "crane, machine")) == {0: 0}


def test_what_becomes_of_the_classes_is_said():
    def said(known, wanted):
        return about_classes(known, wanted, model="m", data="d")

    assert said(("a", "b"), ("a", "b")) == said(("A", "b"), ("a", "b")) == []
    assert ["2 of the 3 classes were found by name" in note for note in said(("b", "a"), ("a", "b", "c"))] == [True]
    assert "have no names" in said(("a", "b"), unnamed_classes(2))[0]
    assert "WordNet ids" in said(imagenet_names(), WNIDS)[0]
    fresh, advice = said(imagenet_names(), WNIDS[:100])
    assert "0 of the 100" in fresh and wnid_advice() in advice and "keep all 1000" in advice


def of_classes(names: tuple[str, ...]) -> Data:
    images = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    return Data("pictures", images, np.arange(4) % len(names), names, "0" * 16, "")


def test_a_label_table_is_kept_for_classes_that_have_other_names(make_model, caplog):
    model = replace(make_model(), class_names=("tench", "goldfish", *"cdefghij"))
    data = of_classes(("tench, Tinca tinca", "goldfish, Carassius auratus", *"CDEFGHIJ"))
    assert model.knows_classes_of(data) and with_classes_of(model, data, seed=0) is model
    numbered = of_classes(unnamed_classes(10))
    assert model.knows_classes_of(numbered) and with_classes_of(model, numbered, seed=0) is model
    fewer = of_classes(("goldfish, Carassius auratus", "newt"))
    with caplog.at_level(logging.WARNING, logger="engine"):
        tell_classes(model, fewer)
    assert "1 of the 2 classes were found by name" in caplog.text
    changed = with_classes_of(model, fewer, seed=0)
    rows = [of.network.y_embedder.embedding_table.weight for of in (model, changed)]
    assert torch.equal(rows[1][0], rows[0][1]) and not changed.labels_trained


def test_classes_in_another_order_are_no_better_known_than_before(make_model):
    model = replace(make_model(), class_names=tuple("abcdefghij"))
    data = of_classes(tuple("jihgfedcba"))
    assert with_classes_of(model, data, seed=0).labels_trained
    assert not with_classes_of(replace(model, labels_trained=False), data, seed=0).labels_trained


def test_a_thousand_folders_called_by_wordnet_ids_keep_the_table_of_an_official_model(make_model):
    model = replace(make_model(), network=make_network(num_classes=1000), class_names=imagenet_names())
    data = of_classes(WNIDS)
    assert model.knows_classes_of(data) and with_classes_of(model, data, seed=0) is model
