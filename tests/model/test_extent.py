import pytest
import torch

from groundcli.model.extent import Extent, fit_extent, look

LEVELS, SPACES, WIDTH, SIDE = 2, 2, 20, 8


def seen(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clues, vectors and what is covered: each phrase is hot in one cell, and its word means a tall or a flat thing."""
    generator = torch.Generator().manual_seed(seed)
    clues, vectors, covered = [], [], []
    for i in range(count):
        row, column = (int(torch.randint(2, 6, (), generator=generator)) for _ in range(2))
        block = torch.zeros(SIDE, SIDE)
        tall = i % 2
        block[row - 2 * tall : row + 1 + 2 * tall, column - 2 * (1 - tall) : column + 1 + 2 * (1 - tall)] = 1
        heat = torch.rand(1, SIDE, SIDE, generator=generator) * 0.2
        heat[0, row, column] = 1
        words = torch.randn(SPACES, 1, WIDTH, generator=generator) * 0.1
        words[..., tall] += 1
        cells = torch.randn(LEVELS, SIDE * SIDE, WIDTH, generator=generator)
        of_one = look(cells, words, heat, torch.ones(1))
        clues.append(of_one[0][0])
        vectors.append(of_one[1][0])
        covered.append(block.flatten())
    return torch.stack(clues), torch.stack(vectors), torch.stack(covered)


@pytest.mark.slow
def test_it_learns_from_words_how_far_things_reach() -> None:
    fitted = fit_extent(Extent(LEVELS, SPACES, WIDTH), *seen(1000, 0), torch.ones(1000))
    clues, vectors, covered = seen(60, 1)
    extents = fitted(clues, vectors)
    assert extents.shape == (60, SIDE * SIDE)
    assert ((extents >= 0.5) == (covered > 0)).float().mean() > 0.97
    assert torch.equal(extents.argmax(1), clues[:, 0].argmax(1))
    assert extents.amax() == 1
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


@pytest.mark.slow
def test_the_same_data_give_the_same_net() -> None:
    """Whatever was drawn before."""
    data = (*seen(60, 0), torch.ones(60))
    first = fit_extent(Extent(LEVELS, SPACES, WIDTH), *data).state_dict()
    torch.rand(3)
    second = fit_extent(Extent(LEVELS, SPACES, WIDTH), *data).state_dict()
    for one, other in zip(first.values(), second.values(), strict=True):
        assert torch.equal(one, other)


def test_no_heat_and_few_cells_do_no_harm() -> None:
    clues, vectors = look(torch.zeros(1, 4, 3), torch.zeros(1, 2, 3), torch.zeros(2, 2, 2), torch.zeros(2))
    assert torch.isfinite(clues).all()
    assert Extent(1, 1, 3)(clues, vectors).shape == (2, 4)
