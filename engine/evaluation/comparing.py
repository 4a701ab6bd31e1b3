"""Reading two metrics.json side by side: whether their numbers may stand in one column, and which way is better.

Free of torch.
"""

from engine.evaluation.protocol import Protocol

_HIGHER = ("accuracy", "precision", "recall", "is")  # the first words of numbers that are better when higher


def differences(first: dict, second: dict) -> list[str]:
    """What makes the fidelity of two metrics.json incomparable; empty where it may be compared.

    Fields of the protocol by name, "weights of the features" where the name is the same but the file isn't, and "data"
    where they were measured against other pictures. Files of before these were noted say nothing about them.
    """
    found = Protocol(**first["protocol"]).differences(Protocol(**second["protocol"]))
    for part, key, what in (("features", "sha256", "weights of the features"), ("reference", "hash", "data")):
        if part in first and part in second and first[part][key] != second[part][key] and part not in found:
            found.append(what)
    return found


def higher_is_better(name: str) -> bool:
    """Of a number by its name in metrics.json, such as "recall (demo-cnn)"."""
    return name.partition(" (")[0].lower().split()[-1] in _HIGHER
