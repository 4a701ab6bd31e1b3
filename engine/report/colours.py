"""The colours of a report, light and dark: for its style sheet and, by name, for its figures."""

#: name -> (light, dark)
COLOURS = {
    "paper": ("#ffffff", "#12161c"),
    "text": ("#1d2430", "#e7eaee"),
    "muted": ("#5d6572", "#9aa3b0"),
    "line": ("#e4e0d8", "#2c333e"),
    "soft": ("#f6f4ef", "#1a2028"),
    "kept": ("#2f66a9", "#79aeef"),
    "pruned": ("#0a7b71", "#3fc5b5"),
    "dropped": ("#ab5a16", "#f0a04f"),
    "reading": ("#7b4fa6", "#be9bea"),
}
#: of signed numbers: below zero, zero, above; carry values, so they are the same in both
SIGNED = ([0.0, "#2166ac"], [0.5, "#f7f7f7"], [1.0, "#b2182b"])


def css_variables() -> str:
    return "; ".join(f"--{name}: light-dark({light}, {dark})" for name, (light, dark) in COLOURS.items())


def for_figures() -> dict[str, dict[str, str]]:
    """What "$name" in a figure stands for."""
    return {
        "light": {f"${name}": light for name, (light, _) in COLOURS.items()},
        "dark": {f"${name}": dark for name, (_, dark) in COLOURS.items()},
    }
