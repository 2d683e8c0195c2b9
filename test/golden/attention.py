"""Writes attention.json: attention and its derivatives by PyTorch, as a plain composition in float64.

Operand n has the elements ((7 i + 3 n + i^2) mod 11 - 5) / 4, and element i of a mask is (i^2 + 3 i) mod 7 > 1.
q, k, v are operands 0, 1, 2; their tangents are 3, 4, 5; the cotangent of the result is 6.

usage: python3 attention.py
"""

import json
from pathlib import Path

import torch
from functorch import jvp


def operand(shape, n):
    i = torch.arange(torch.Size(shape).numel())
    return (((7 * i + 3 * n + i * i) % 11 - 5).double() / 4).reshape(shape)


def mask_of(shape):
    i = torch.arange(torch.Size(shape).numel())
    return ((i * i + 3 * i) % 7 > 1).reshape(shape)


def attention(q, k, v, mask, causal, scale):
    scores = scale * torch.einsum("...nd,...md->...nm", q, k)
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool)
    if causal:
        visible = visible.tril()
    if mask is not None:
        visible = visible & mask
    # The scores are small, so that nothing needs to be subtracted before exp.
    p = torch.where(visible, torch.exp(scores), torch.zeros((), dtype=torch.float64))
    total = p.sum(-1, keepdim=True)
    p = p / torch.where(total == 0, torch.ones((), dtype=torch.float64), total)
    return torch.einsum("...nm,...me->...ne", p, v)


cases = [
    # shapes of q, k, v, mask, causal, scale
    ([3, 4], [3, 4], [3, 4], None, False, None),
    ([2, 2, 5, 3], [2, 2, 4, 3], [2, 2, 4, 2], None, False, None),
    ([2, 5, 3], [2, 7, 3], [2, 7, 4], None, True, 0.7),
    ([2, 7, 3], [2, 4, 3], [2, 4, 5], None, True, -1.3),
    ([2, 3, 4, 2], [2, 3, 6, 2], [2, 3, 6, 3], [2, 3, 4, 6], False, None),
    ([2, 3, 4, 2], [2, 1, 6, 2], [2, 1, 6, 3], [6], False, 2.0),
    ([3, 4, 2], [1, 6, 2], [6, 3], [3, 1, 6], False, None),
    ([2, 5, 2], [2, 5, 2], [2, 5, 3], [5, 5], True, None),
    ([4, 2], [5, 2], [2, 5, 3], [2, 4, 1], False, None),
    ([3, 1], [1, 1], [1, 2], None, False, None),
    ([1, 3], [6, 3], [6, 1], [1, 6], False, None),
]

rows = []
for q_shape, k_shape, v_shape, mask_shape, causal, scale in cases:
    mask = None if mask_shape is None else mask_of(mask_shape)
    used = q_shape[-1] ** -0.5 if scale is None else scale
    f = lambda q, k, v: attention(q, k, v, mask, causal, used)
    primals = [operand(s, n).requires_grad_() for n, s in enumerate((q_shape, k_shape, v_shape))]
    tangents = [operand(s, n + 3) for n, s in enumerate((q_shape, k_shape, v_shape))]
    y, dy = jvp(f, tuple(x.detach() for x in primals), tuple(tangents))
    w = operand(y.shape, 6)
    grads = torch.autograd.grad((f(*primals) * w).sum(), primals, create_graph=True)
    slope = sum((g * t).sum() for g, t in zip(grads, tangents))
    second = torch.autograd.grad(slope, primals)
    flat = lambda x: x.detach().flatten().tolist()
    rows.append(
        {
            "q": q_shape,
            "k": k_shape,
            "v": v_shape,
            "mask": mask_shape,
            "causal": causal,
            "scale": scale,
            "shape": list(y.shape),
            "value": flat(y),
            "jvp": flat(dy),
            "vjp": [flat(g) for g in grads],
            "second": [flat(g) for g in second],
        }
    )

text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
Path(__file__).with_name("attention.json").write_text(text)
