"""Layers with a rounding in front of their weights: with nothing to round they compute what torch's kernels do."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from explorer.models.quantized import FakeQuantize, QuantizedInputs, quantized_class
from explorer.models.sites import attach, refusal, rounded
from explorer.models.stack import RecurrentStack


def roundings(module: nn.Module, make: object = nn.Identity) -> dict[str, nn.Module]:
    return {n: make() for n, p in module.named_parameters() if p.ndim > 1 and refusal(module, n) is None}  # type: ignore[operator]


class Plain(nn.Module):
    """A rounding that rounds nothing, and is none of the known ones: recurrent layers have to run step by step."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def same(a: object, b: object) -> bool:
    if isinstance(a, Tensor):
        return torch.allclose(a, b, atol=1e-6)  # type: ignore[arg-type]
    return all(same(x, y) for x, y in zip(a, b, strict=True))  # type: ignore[call-overload]


CELLS = [
    (kind, layers, both, first, more)
    for kind, layers, both, first in itertools.product((nn.LSTM, nn.GRU, nn.RNN), (1, 2), (False, True), (False, True))
    for more in (
        [{}, {"proj_size": 3}] if kind is nn.LSTM else [{}, {"nonlinearity": "relu"}] if kind is nn.RNN else [{}]
    )
]


@pytest.mark.parametrize(("kind", "layers", "both", "first", "more"), CELLS)
def test_steps_are_the_kernel(
    kind: type, layers: int, both: bool, first: bool, more: dict[str, object], device: str
) -> None:
    module = (
        kind(4, 5, layers, bidirectional=both, batch_first=first, bias=layers == 1 or not both, **more)
        .to(device)
        .eval()
    )
    x = torch.randn(3, 6, 4, device=device)
    packed = (
        pack_padded_sequence(x, torch.tensor([4, 6, 1]), batch_first=first, enforce_sorted=False) if first else None
    )
    states = module(x)[1]
    states = tuple(torch.randn_like(s) for s in states) if kind is nn.LSTM else torch.randn_like(states)
    before = [module(x), module(x, states), module(x[0])] + ([module(packed)] if packed is not None else [])
    parameters = list(module.named_parameters())
    with torch.no_grad(), rounded(module, roundings(module, Plain)):
        assert isinstance(module, kind) and isinstance(module, QuantizedInputs)
        after = [module(x), module(x, states), module(x[0])] + ([module(packed)] if packed is not None else [])
        for a, b in zip(before, after, strict=True):
            assert same(getattr(a[0], "data", a[0]), getattr(b[0], "data", b[0])) and same(a[1], b[1])
        assert [n for n, _ in module.named_parameters()] == [n for n, _ in parameters]
    assert type(module) is kind and not hasattr(module, "input_quantizers") and torch.equal(module(x)[0], before[0][0])


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells(kind: type, device: str) -> None:
    module = kind(4, 5).to(device)
    x = torch.randn(3, 4, device=device)
    h = torch.randn(3, 5, device=device)
    state = (h, torch.randn(3, 5, device=device)) if kind is nn.LSTMCell else h
    before = [module(x), module(x, state), module(x[0])]
    with rounded(module, roundings(module, Plain)):
        assert all(same(a, b) for a, b in zip(before, [module(x), module(x, state), module(x[0])], strict=True))


def test_the_hidden_state_is_rounded_at_each_step(device: str) -> None:
    module = nn.GRU(3, 4, batch_first=True).to(device)
    x = torch.randn(2, 5, 3, device=device)
    attach(module, {"weight_ih_l0": half(), "weight_hh_l0": half()})
    module.to(device)
    w_ih, w_hh, b_ih, b_hh = module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, module.bias_hh_l0
    h = torch.zeros(2, 4, device=device)
    for t in range(5):
        a, b = torch.round(x[:, t] * 4) / 4 @ w_ih.T + b_ih, torch.round(h * 4) / 4 @ w_hh.T + b_hh
        r, z = (a[:, :8] + b[:, :8]).sigmoid().chunk(2, 1)
        h = (1 - z) * (a[:, 8:] + r * b[:, 8:]).tanh() + z * h
    assert torch.allclose(module(x)[1][0], h, atol=1e-6)


def half() -> FakeQuantize:
    """Quarter steps from -32 to 31.75."""
    made = FakeQuantize()
    made.scale, made.zero_point = torch.tensor(0.25), torch.tensor(128, dtype=torch.int32)
    return made


@pytest.mark.parametrize("kdim", [None, 5])
@pytest.mark.parametrize("first", [False, True])
def test_attention(kdim: int | None, first: bool, device: str) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=first, kdim=kdim, vdim=kdim).to(device).eval()
    q = torch.randn(3, 4, 8, device=device)
    kv = q if kdim is None else torch.randn(3, 4, 5, device=device)
    before = module(q, kv, kv)
    names = roundings(module, Plain)
    assert set(names) == (
        {"in_proj_weight", "out_proj.weight"}
        if kdim is None
        else {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
    )
    with rounded(module, names):
        assert same(before, module(q, kv, kv)) and isinstance(module, nn.MultiheadAttention)
    seen: list[Tensor] = []
    with rounded(module, {"out_proj.weight": Recorder(seen)}):
        assert same(before, module(q, kv, kv)) and len(seen) == 1 and seen[0].shape[-1] == 8
    assert type(module) is nn.MultiheadAttention


class Recorder(nn.Module):
    def __init__(self, seen: list[Tensor]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x


@pytest.mark.parametrize("act", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoders_leave_their_fused_kernel(act: str, norm_first: bool, device: str) -> None:
    """The kernel passes by the layers inside: each of them must be seen, also behind a padding mask and nested tensors."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=act, norm_first=norm_first, batch_first=True)
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).to(device).eval()
    x, padding = torch.randn(3, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 5])
    x, padding = x.to(device), padding.to(device)
    with torch.inference_mode():
        for mask in (None, padding):
            before = module(x, src_key_padding_mask=mask)
            for name in [n for n, p in module.named_parameters() if p.ndim > 1]:
                seen: list[Tensor] = []
                with rounded(module, {name: Recorder(seen)}):
                    after = module(x, src_key_padding_mask=mask)
                    assert seen, (name, "was passed by")
                keep = ~padding if mask is not None else torch.ones_like(padding)
                assert torch.allclose(before[keep], after[keep], atol=1e-5)
        assert torch.equal(module(x), module(x)) and all(type(m) is not QuantizedInputs for m in module.modules())
    assert all(one.activation_relu_or_gelu for one in module.layers)


CONVS = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]


@pytest.mark.parametrize("kind", CONVS)
def test_convolutions(kind: type, device: str) -> None:
    module = kind(2, 4, 3, padding=1, groups=2).to(device)
    x = torch.randn(2, 2, *[5] * (CONVS.index(kind) % 3 + 1)).to(device)
    expected = module(torch.fake_quantize_per_tensor_affine(x, 0.25, 128, 0, 255))
    attach(module, {"weight": half().to(device)})
    assert torch.equal(module(x), expected) and torch.equal(copy.deepcopy(module)(x), expected)


def test_subclasses_and_strangers(device: str) -> None:
    class Named(nn.Linear):
        def twice(self) -> int:
            return 2 * self.in_features

    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return input

    module = nn.Sequential(
        Named(3, 3), Own(3, 3), nn.Bilinear(3, 3, 3), nn.MultiheadAttention(4, 2, add_bias_kv=True), nn.Embedding(3, 3)
    ).to(device)
    assert (
        refusal(module, "0.weight") is None
        and "Own" in str(refusal(module, "1.weight"))
        and "Bilinear" in str(refusal(module, "2.weight"))
    )
    assert "added keys" in str(refusal(module, "3.in_proj_weight")) and "added keys" in str(
        refusal(module, "3.out_proj.weight")
    )
    assert "indices" in str(refusal(module, "4.weight"))
    attach(module, {"0.weight": half().to(device)})
    assert module[0].twice() == 6 and isinstance(module[0], Named) and quantized_class(Named) is type(module[0])


def test_a_stack_of_different_sizes(device: str) -> None:
    stack = RecurrentStack("LSTM", 3, [4, 5, 2, 6], bidirectional=True, batch_first=True).to(device).eval()
    for p in stack.parameters():
        nn.init.normal_(p)
    x = torch.randn(2, 5, 3, device=device)
    before = stack(x)
    with torch.no_grad(), rounded(stack, roundings(stack, Plain)):
        after = stack(x)
    assert same(before[0], after[0]) and same(before[1], after[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_rounding_is_torchs_in_every_dtype(dtype: torch.dtype, device: str) -> None:
    one = half().to(device)
    x = torch.randn(100, device=device).to(dtype) * 20
    assert one(x).dtype == dtype and torch.equal(
        one(x).float(), torch.fake_quantize_per_tensor_affine(x.float(), 0.25, 128, 0, 255).to(dtype).float()
    )
    for low, high in ((0, 0), (1, 5), (-200, 5), (0, 300), (0.0, 5), ("a", 5)):
        with pytest.raises(ValueError, match="codes"):
            FakeQuantize(low, high)  # type: ignore[arg-type]
