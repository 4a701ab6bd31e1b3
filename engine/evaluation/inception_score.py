"""The Inception score (arXiv 1606.03498) of an extractor's logits: exp of the mean KL divergence of each image's
distribution over classes from that of all images. Logits (N, K)."""

import numpy as np
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

_SPLITS = 10


def inception_score(logits: np.ndarray, *, seed: int) -> tuple[float, float, int]:
    """torch-fidelity's: mean and deviation over its splits, and how many there were; a split holds two or more."""
    splits = min(_SPLITS, len(logits) // 2)
    found = isc_features_to_metric(torch.from_numpy(logits), splits=splits, rng_seed=seed)
    return found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD], splits


def resampled_scores(logits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Scores of resamples, each as one split; counts (N, R): how often resample r holds image n. Returns (R,)."""
    log_p = torch.from_numpy(logits).double().log_softmax(dim=1).numpy()
    p, shares = np.exp(log_p), counts / counts.sum(axis=0)
    marginal = shares.T @ p  # (R, K)
    entropy = -(marginal * np.log(np.maximum(marginal, np.finfo(np.float64).tiny))).sum(axis=1)
    return np.exp(entropy + shares.T @ (p * log_p).sum(axis=1))
