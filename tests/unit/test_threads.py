"""How many threads a preview's operations get."""

import pytest
import torch

from engine.runs import threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_model_gets_one_and_the_rest_of_the_process_its_own_again(two_threads, make_model) -> None:
    with pytest.raises(ZeroDivisionError), threads.threads_for(make_model()):
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_large_model_keeps_all(two_threads, make_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_SMALL_PARAMETERS", 10)
    with threads.threads_for(make_model()):
        assert torch.get_num_threads() == 2
