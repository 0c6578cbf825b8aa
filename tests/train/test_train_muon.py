import pytest
import torch

from kleiber.train.muon import Muon, orthogonalize


def _step_ours(weights, gradients, splits, *, lr, weight_decay=0.0):
    params = [torch.nn.Parameter(w.clone()) for w in weights]
    muon = Muon(params, splits, lr=lr, momentum=0.95, weight_decay=weight_decay)
    for step_gradients in gradients:
        for param, gradient in zip(params, step_gradients, strict=True):
            param.grad = gradient.clone()
        muon.step(1.0)
    return [param.detach() for param in params]


def test_equals_torchs_muon_to_bf16_tolerance():
    torch.manual_seed(0)
    shapes = [(24, 16), (16, 24), (16, 16)]
    weights = [torch.randn(s) for s in shapes]
    gradients = [[torch.randn(s) for s in shapes] for _ in range(3)]
    ours = _step_ours(weights, gradients, [(s[0],) for s in shapes], lr=0.02, weight_decay=0.1)
    theirs = [torch.nn.Parameter(w.clone()) for w in weights]
    # Their rate is 5 times ours, and so is what their weight decay is multiplied by.
    optimizer = torch.optim.Muon(
        theirs, lr=0.1, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for step_gradients in gradients:
        for param, gradient in zip(theirs, step_gradients, strict=True):
            param.grad = gradient.clone()
        optimizer.step()
    for start, a, b in zip(weights, ours, theirs, strict=True):
        moved = (b.detach() - start).norm()
        assert (a - b.detach()).norm() < 0.02 * moved


def test_fused_matrices_step_as_if_apart():
    torch.manual_seed(1)
    whole, gradient = torch.randn(40, 16), torch.randn(40, 16)
    fused = _step_ours([whole], [[gradient]], [(16, 8, 16)], lr=0.1)[0]
    parts = _step_ours(
        list(whole.split((16, 8, 16))), [list(gradient.split((16, 8, 16)))], [(16,), (8,), (16,)], lr=0.1
    )
    torch.testing.assert_close(fused, torch.cat(parts))


def test_convolution_kernels_are_folded():
    torch.manual_seed(2)
    kernel, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    folded = _step_ours([kernel.flatten(1)], [[gradient.flatten(1)]], [(8,)], lr=0.1)[0]
    torch.testing.assert_close(_step_ours([kernel], [[gradient]], [(8,)], lr=0.1)[0].flatten(1), folded)


def test_orthogonalize_keeps_singular_vectors_and_levels_singular_values():
    torch.manual_seed(3)
    left, _ = torch.linalg.qr(torch.randn(12, 12))
    right, _ = torch.linalg.qr(torch.randn(20, 20))
    x = left @ torch.diag(torch.linspace(0.1, 1, 12)) @ right[:12]
    levelled = left.T @ orthogonalize(x[None])[0] @ right[:12].T
    assert (levelled.diagonal() > 0.6).all()
    assert (levelled.diagonal() < 1.3).all()
    assert (levelled - torch.diag(levelled.diagonal())).abs().max() < 1e-4


def test_update_has_root_mean_square_lr():
    torch.manual_seed(4)
    start = torch.zeros(64, 96)
    moved = _step_ours([start], [[torch.randn(64, 96)]], [(64,)], lr=0.01)[0]
    assert moved.square().mean().sqrt().item() == pytest.approx(0.01, rel=0.15)


def test_refuses_what_it_cannot_split():
    with pytest.raises(ValueError, match=r"rows \(3,\) must add up to the first dimension of \(4, 4\)"):
        Muon([torch.zeros(4, 4)], [(3,)], lr=0.1)
    with pytest.raises(ValueError, match="every parameter needs a gradient"):
        Muon([torch.zeros(4, 4)], [(4,)], lr=0.1).step(1.0)
