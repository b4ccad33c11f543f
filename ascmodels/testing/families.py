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

    :func:`contracts` makes such classes, one for each of the family's presets.

    Examples
    --------
    >>> class TestMine(FamilyContract):
    ...     kind = "mine"
    """

    kind: ClassVar[str]
    """Name of the family's entry point."""
    preset: ClassVar[str] = "default"
    """Which of its presets."""

    def family(self) -> Family:
        """The registered family with the parameters of the preset."""
        family: Family = plugins.load("ascmodels.families", self.kind).presets()[self.preset]
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
            largest = max(1.0, float(together.abs().max()))  # before training, norms have not seen how large inputs are
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5 * largest)

    def test_weights_come_from_the_current_generator(self) -> None:
        first, again, other = (self.network(seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(first[k], again[k]) for k in first)
        assert any(not torch.equal(first[k], other[k]) for k in first)

    def test_a_state_dict_goes_into_another_network(self) -> None:
        one, two = self.network(1).eval(), self.network(2).eval()
        two.load_state_dict(one.state_dict())
        with torch.inference_mode():
            assert torch.equal(one(*self.inputs(2)), two(*self.inputs(2)))

    def test_the_weights_that_depend_on_the_number_of_classes_are_its_head(self) -> None:
        family = self.family()
        few, more = (family.build(family.smallest(), n).state_dict() for n in (CLASSES, CLASSES + 1))
        other = {key for key in few if few[key].shape != more[key].shape}
        assert few.keys() == more.keys()
        if family.head:  # without, it starts from the weights of its own classes only
            assert all(key.startswith(family.head) for key in other)
            assert any(key.startswith(family.head) for key in few)

    def test_it_can_learn_eight_clips_by_heart(self) -> None:
        network, x, y = self.network().train(), self.inputs(8), torch.arange(8) % CLASSES
        optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(100):
            logits = network(*x)
            if (logits.argmax(1) == y).all():
                return
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits, y).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        raise AssertionError("after 100 steps it does not know them")

    def test_its_default_preset_is_its_default(self) -> None:
        family = type(self.family())
        assert family.presets()["default"] == family()


def contracts(kind: str) -> dict[str, type[FamilyContract]]:
    """Test classes of a registered family, one for each of its presets, by names that pytest collects.

    Examples
    --------
    >>> globals().update(contracts("five_conv"))
    """
    presets = plugins.load("ascmodels.families", kind).presets()
    names = {preset: f"Test_{kind}" if preset == "default" else f"Test_{kind}_{preset}" for preset in presets}
    return {name: type(name, (FamilyContract,), {"kind": kind, "preset": preset}) for preset, name in names.items()}
