"""What every model family must keep, as a test class that the author of a family fills in."""

# ruff: noqa: D102 - the names of the tests are sentences

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascschemas import plugins
from ascschemas.base import Parameters

CLASSES = 4


class FamilyContract:
    """Tests of one family. Subclass it with a name that pytest collects, and say ``kind``.

    Examples
    --------
    >>> class TestMine(FamilyContract):
    ...     kind = "mine"
    """

    kind: ClassVar[str]
    """Name of the family's entry point."""

    def family(self) -> Family:
        """The registered family with its default parameters."""
        family: Family = plugins.load("ascmodels.families", self.kind)()
        return family

    def network(self, seed: int = 0) -> nn.Module:
        """A fresh network for the family's smallest input."""
        family = self.family()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return family.build(family.smallest(), CLASSES)

    def inputs(self, n: int) -> tuple[Tensor, ...]:
        """Normalised features of some clips, for each input."""
        draw = torch.Generator().manual_seed(7)
        return tuple(torch.randn((n, *layout.shape), generator=draw) for layout in self.family().smallest())

    def test_its_parameters_are_written_to_json_and_read_back(self) -> None:
        family = self.family()
        kept = Parameters.model_validate({"kind": self.kind, **family.model_dump(mode="json")})
        assert type(family).model_validate(kept.values()) == family

    def test_logits_are_one_row_a_clip_and_one_column_a_class(self) -> None:
        for n in (1, 3):
            logits = self.network().eval()(*self.inputs(n))
            assert logits.shape == (n, CLASSES)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()

    def test_every_parameter_receives_a_gradient(self) -> None:
        network = self.network().train()
        loss = nn.functional.cross_entropy(network(*self.inputs(8)), torch.arange(8) % CLASSES)
        loss.backward()  # type: ignore[no-untyped-call]
        idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not idle

    def test_evaluation_repeats_and_does_not_depend_on_the_batch(self) -> None:
        network, x = self.network().eval(), self.inputs(4)
        with torch.inference_mode():
            together = network(*x)
            assert torch.equal(together, network(*x))
            alone = torch.cat([network(*(row[None] for row in rows)) for rows in zip(*x, strict=True)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)

    def test_weights_come_from_the_current_generator(self) -> None:
        first, again, other = (self.network(seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[k], again[k]) for k in first)
        assert any(not torch.equal(first[k], other[k]) for k in first)

    def test_a_state_dict_goes_into_another_network(self) -> None:
        one, two = self.network(1).eval(), self.network(2).eval()
        two.load_state_dict(one.state_dict())
        with torch.inference_mode():
            assert torch.equal(one(*self.inputs(2)), two(*self.inputs(2)))

    def test_it_can_learn_eight_clips_by_heart(self) -> None:
        network, x, y = self.network().train(), self.inputs(8), torch.arange(8) % CLASSES
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(*x), y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        assert (network(*x).argmax(1) == y).all()
