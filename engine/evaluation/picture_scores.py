"""What the demo CNN says of each picture by itself: how sure it is of the class that was asked for, which class it
sees, and its features, by whose distances pictures can be compared.

Metrics are about many pictures; these numbers find the ones to look at. They are those of a small CNN, which errs too.
"""

import numpy as np

from engine.evaluation.features import extract_all, load_features


def score_pictures(
    images: np.ndarray,
    labels: np.ndarray,
    data_name: str,
    *,
    device: str = "cpu",
    extracted: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """uint8 (N, H, W, 3) and labels (N,) -> arrays of samples.npz, by name. ``extracted``: what ``extract_all`` of the
    demo CNN gave for these images, where that is known.

    ``demo_features`` float32 (N, F) and ``demo_cnn``, the SHA-256 of the weights that gave them. Where the CNN knows
    the classes of ``data_name`` also ``class_confidence`` float32 (N,), the probability of the picture's own class
    among those of the dataset, and ``seen_class`` int64 (N,), the most probable one; both as the class accuracy judges.
    """
    features = load_features("demo-cnn", device=device)
    assert features.classes is not None
    found, logits = extracted or extract_all(features, images)
    scores = {"demo_features": found.astype(np.float32), "demo_cnn": np.array(features.sha256)}
    known = features.classes.class_names.get(data_name, ())
    if known and labels.min() >= 0 and labels.max() < len(known):  # other labels are refused with the metrics
        own = logits[:, features.classes.logits_of(data_name)]  # (N, classes of the dataset)
        likely = np.exp(own - own.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        scores["class_confidence"] = likely[np.arange(len(labels)), labels].astype(np.float32)
        scores["seen_class"] = own.argmax(1)
    return scores
