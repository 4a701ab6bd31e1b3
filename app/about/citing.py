"""How to cite the method and this program."""

from engine.version import VERSION, YEAR, commit

PAPER = """@article{li2025entpruner,
  title   = {Which Layer Causes Distribution Deviation? Entropy-Guided Adaptive Pruning
             for Diffusion and Flow Models},
  author  = {Li, Changlin and Zhang, Jiawei and Shi, Zeyi and Yang, Zongxin and
             Li, Zhihui and Chang, Xiaojun},
  journal = {arXiv preprint arXiv:2511.21122},
  year    = {2025}
}"""


def product() -> str:
    """Nobody's name stands in it: none stands in the program."""
    which = f"version {VERSION}" + (f", commit {commit()}" if commit() else "")
    return (
        f"@software{{entprunerstudio{YEAR},\n  title  = {{EntPruner Studio}},\n  author = {{{{EntPruner Studio}}}},\n"
        f"  year   = {{{YEAR}}},\n  note   = {{{which}. An implementation of arXiv:2511.21122, independent of its "
        "authors}\n}"
    )
