"""What a model's classes are called where its files don't say."""

from engine.errors import AssetError

_IMAGENET = 1000


def names_of_classes(said: tuple[str, ...], num_classes: int) -> tuple[tuple[str, ...], list[str]]:
    """Names and notes. Raises AssetError where there are more or fewer names than classes."""
    if said:
        if len(said) != num_classes:
            raise AssetError(
                f"the label table has {num_classes} classes, but the description names {len(said)}; correct the "
                "class_names beside the weights, or remove them"
            )
        return said, []
    if num_classes == _IMAGENET:
        note = "The 1000 classes have no names here; those of ImageNet, in its order, are assumed."
        return imagenet_names(), [note]
    return _numbered(num_classes), ["The classes have no names here; they are called class 0, class 1 and so on."]


def unnamed(names: tuple[str, ...]) -> bool:
    """Whether the names are of our making."""
    return names == _numbered(len(names))


def _numbered(num_classes: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(num_classes))


def imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    from engine.models.hints import distinct

    return distinct(list(ResNet18_Weights.DEFAULT.meta["categories"]))
