"""Features are exact whatever the caller has set, and what the caller has set is there again afterwards."""

import threading

import numpy as np
import pytest
import torch

from ascfeat.dsp.torch_backend.arithmetic import exact_arithmetic, per_clip, tf32
from ascfeat.representations import representation
from ascschemas.base import Parameters
from ascschemas.dataset import AudioFormat

AUDIO = AudioFormat(sample_rate=16_000, channels=1, frames=8_000)
LOG_MEL = {"kind": "log_mel", "n_fft": 512, "hop_length": 128, "spectrum": "power", "n_mels": 20, "floor": 1e-8}
KINDS = {
    "log_mel": LOG_MEL,
    "cqt": {"kind": "cqt", "hop_length": 128, "n_bins": 24, "fmin": 200},
}


def settings() -> tuple[object, ...]:
    """Every process-wide setting that could reach a product, as the caller sees it."""
    return (
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision(),
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.get_num_threads(),
        torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
    )  # fmt: skip


def tf32_in_convolutions() -> bool:
    """What cuDNN would do; since torch 2.9 each kind of operation has a precision of its own."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    return conv.fp32_precision == "tf32" if hasattr(conv, "fp32_precision") else torch.backends.cudnn.allow_tf32


def tf32_in_products() -> bool:
    """What cuBLAS would do."""
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32


@pytest.fixture
def careless():
    """A training script's settings: everything fast."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


@pytest.mark.parametrize("backend", ["torch", "nnaudio"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_careless_caller_gets_the_same_bits(kind: str, backend: str, request: pytest.FixtureRequest) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, AUDIO.frames)).astype(np.float32)
    transform = representation(Parameters.model_validate(KINDS[kind])).build(AUDIO, device="cpu", backend=backend)
    expected = transform(x)
    request.getfixturevalue("careless")
    set_by_caller = settings()
    with torch.autocast("cpu", torch.bfloat16):
        found = transform(x)
    np.testing.assert_array_equal(found, expected)
    assert settings() == set_by_caller


def test_inside_everything_is_exact(careless) -> None:
    assert tf32_in_products()
    assert tf32_in_convolutions()
    with exact_arithmetic():
        assert not tf32_in_products()
        assert not tf32_in_convolutions()
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
    assert tf32() == "off"


def test_settings_return_after_an_error(careless) -> None:
    before = settings()

    def broken(clip: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        per_clip(broken, "cpu")(np.zeros((1, 1, 4), np.float32))
    assert settings() == before


def test_the_last_thread_to_leave_restores(careless) -> None:
    """One thread leaves while another is still computing: the other's products must stay exact."""
    inside, go_on, seen = threading.Event(), threading.Event(), []

    def long_one() -> None:
        with exact_arithmetic():
            inside.set()
            go_on.wait(10)
            seen.append(tf32_in_convolutions())

    thread = threading.Thread(target=long_one)
    thread.start()
    inside.wait(10)
    with exact_arithmetic():
        pass
    assert not tf32_in_convolutions(), "another thread is still inside"
    go_on.set()
    thread.join()
    assert seen == [False]
    assert tf32_in_convolutions()
