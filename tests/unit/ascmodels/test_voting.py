"""Votes of patches: majority, ties, means; against counting by hand."""

import numpy as np
import pytest
import torch

from ascmodels.inputs import Input
from ascmodels.testing.stores import layout
from ascmodels.voting import EXAMPLES_AT_ONCE, logits_of_clips, voted
from ascschemas.recipe import Patches


def test_the_class_of_most_patches_wins_however_sure_the_others_are():
    p = torch.tensor([[[0.99, 0.01, 0.0], [0.4, 0.5, 0.1], [0.4, 0.5, 0.1]]])
    assert voted(p, "majority").argmax(1).tolist() == [1]
    assert voted(p, "mean").argmax(1).tolist() == [0]
    torch.testing.assert_close(voted(p, "mean"), p.mean(1))


def test_ties_go_to_the_larger_sum_of_probabilities():
    p = torch.tensor([[[0.6, 0.4, 0.0], [0.05, 0.9, 0.05], [0.55, 0.45, 0.0], [0.3, 0.7, 0.0]]])
    assert voted(p, "majority").argmax(1).tolist() == [1]


def test_random_votes_are_those_counted_by_hand_and_rows_sum_to_one():
    p = torch.softmax(torch.randn(300, 5, 4, generator=torch.Generator().manual_seed(0)), dim=2)
    found = voted(p, "majority")
    torch.testing.assert_close(found.sum(1), torch.ones(300))
    for row, probabilities in zip(found.numpy(), p.numpy(), strict=True):
        votes = np.bincount(probabilities.argmax(1), minlength=4)
        best = max(range(4), key=lambda k: (votes[k], probabilities[:, k].sum()))
        assert row.argmax() == best


@pytest.mark.parametrize("how", ["majority", "mean"])
def test_a_whole_clip_says_what_its_network_says(how):
    p = torch.softmax(torch.randn(6, 1, 4), dim=2)
    assert torch.equal(voted(p, how), p[:, 0])


def test_patches_go_through_the_network_some_at_a_time_in_their_order():
    given, sizes = Input(layout(bands=3, frames=40), Patches(width=4, hop=2)), []
    x = torch.randn(40, 1, 3, 40)

    def network(features):
        sizes.append(len(features[0]))
        return features[0].flatten(1)[:, :5]

    found = logits_of_clips(network, [given], [x])
    assert found.shape == (40, 19, 5)
    assert max(sizes) <= EXAMPLES_AT_ONCE
    assert len(sizes) > 1
    torch.testing.assert_close(found.flatten(0, 1), given.every(x).flatten(1)[:, :5])
