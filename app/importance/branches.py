"""Rows that are branches: attention and MLP of each block apart."""

import streamlit as st

from app import charts, glossary

_WHAT = {
    "attn": "Attention of block {block}: the half in which the tokens (patches of the picture) look at each other. "
    "Without it each patch goes through this block on its own.",
    "mlp": "MLP of block {block}: the half that works on each token by itself, and holds about two thirds of the "
    "block's weights. Without it patches still exchange information here, but nothing is computed from it.",
}


def are_rows(result: dict) -> bool:
    return any(" " in label for label in charts.row_labels(result))


def explain(result: dict, row: int) -> None:
    """What the row is, its number, and how it stands to its other half."""
    labels = charts.row_labels(result)
    block, _, branch = labels[row].partition(" ")
    other = labels.index(f"{block} {'mlp' if branch == 'attn' else 'attn'}")
    st.html(f'<p class="ep-question">{labels[row]}</p><p class="ep-say">{_WHAT[branch].format(block=block)}</p>')
    place = result["order"].index(row) + 1
    first, second = st.columns(2)
    first.metric(
        "CED", f"{result['ced'][row]:.4f}",
        help="Here of this branch alone, in nats per dimension. " + glossary.explain("CED"),
    )  # fmt: skip
    second.metric("Rank", f"{place} of {len(labels)}", help="1 matters least.")
    st.html(
        f'<p class="ep-note">{result["confidence"]:.0%} interval {result["ci_low"][row]:.4f} … '
        f"{result['ci_high'][row]:.4f}, rank {result['rank_low'][row]} to {result['rank_high'][row]}. "
        f"{_against(result, row, other)}</p>"
    )
    column = st.session_state.get("timestep")
    if column is not None and column < len(result["timesteps"]):
        cell = [result[key][row][column] for key in ("delta", "cell_low", "cell_high")]
        st.html(
            f'<p class="ep-note">In the chosen cell, {charts.column_labels(result)[column]}: ΔH {cell[0]:+.4f} '
            f"({cell[1]:+.4f} … {cell[2]:+.4f}).</p>"
        )
    st.html(
        '<p class="ep-note">Pictures without it can\'t be drawn: the preview and pruning take out whole blocks. To see '
        f"block {block} as a whole, choose whole blocks as rows in Settings.</p>"
    )


def _against(result: dict, row: int, other: int) -> str:
    labels = charts.row_labels(result)
    apart = result["ci_low"][row] > result["ci_high"][other] or result["ci_high"][row] < result["ci_low"][other]
    if not apart:
        return f"It can't be told apart from {labels[other]}: their intervals overlap."
    return f"It matters {'more' if result['ced'][row] > result['ced'][other] else 'less'} than {labels[other]}."
