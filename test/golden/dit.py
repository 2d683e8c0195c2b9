"""Writes dit.json: diffusion transformers, their derivatives and flow losses by PyTorch in float64.

Written from the definitions: DiT (Peebles & Xie 2023) with RMSNorm, rotary embedding by row and column, SwiGLU, and
queries and keys that are normalised. Element i of pattern n is ((37 (i + 1) (i + 13 + 5 n)) mod 257 - 128) / 128.
Parameter n, counted in the order of the rows in dit.json, is offset + factor * pattern n; nothing is left at zero.

usage: python3 dit.py
"""

import json
import math
from pathlib import Path

import torch
from functorch import jvp

torch.set_default_dtype(torch.float64)
silu = torch.nn.functional.silu


def pattern(shape, n):
    i = torch.arange(torch.Size(shape).numel())
    return ((37 * (i + 1) * (i + 13 + 5 * n) % 257 - 128).double() / 128).reshape(shape)


# ---- Parameters, by name.


def features_of(embedding):
    return {"raw": 1, "fourier": 7, "sinusoidal": 17}[embedding]


def parameter_list(c):
    """(name, shape, offset, factor) of each parameter."""
    h, w, ch = c["dim"]
    p, hidden, depth, heads = c["patch"], c["hidden"], c["depth"], c["heads"]
    wide = c.get("mlpHidden", 8 * math.ceil(hidden / 3))
    times = 2 if c["average"] else 1
    interval = ["guidanceStart", "guidanceEnd"] if c.get("guidanceInterval") else []
    count = times + (c["classes"] > 0) + c["guidance"] + len(interval)
    rows = []

    def weight(name, fan_in, *out):
        rows.append((name, [fan_in, *out], 0.0, 1.5 / math.sqrt(fan_in)))

    def linear(name, fan_in, fan_out):
        weight(f"{name}/weight", fan_in, fan_out)
        rows.append((f"{name}/bias", [fan_out], 0.0, 0.25))

    def embedder(name):
        linear(f"{name}/in", features_of(c["timeEmbedding"]), hidden)
        linear(f"{name}/out", hidden, hidden)

    def norm(name, size=hidden):
        rows.append((name, [size], 1.0, 0.4))

    linear("patches", p * p * ch, hidden)
    for i in range(times):
        embedder(f"times/{i}")
    if c["classes"] > 0:
        rows.append(("labels/table", [c["classes"] + 1, hidden], 0.0, 1.0))
    if c["guidance"]:
        embedder("guidance")
    for name in interval:
        embedder(name)
    for i in range(depth):
        block = f"blocks/{i}"
        weight(f"{block}/attention/qkv/weight", hidden, 3 * hidden)
        weight(f"{block}/attention/out/weight", hidden, hidden)
        norm(f"{block}/attention/queryScale", hidden // heads)
        norm(f"{block}/attention/keyScale", hidden // heads)
        weight(f"{block}/mlp/in/weight", hidden, 2 * wide)
        weight(f"{block}/mlp/out/weight", wide, hidden)
        if c["conditioning"] == "adaLN-zero":
            linear(f"{block}/modulation", hidden, 6 * hidden)
        else:
            norm(f"{block}/norms/0")
            norm(f"{block}/norms/1")
    if c["conditioning"] == "adaLN-zero":
        linear("modulation", hidden, 2 * hidden)
    else:
        norm("norm")
        rows.append(("context", [count, c["contextTokens"], hidden], 0.0, 1.0))
    linear("head", hidden, p * p * ch)
    return rows


# ---- The network.


def time_features(t, embedding):
    if embedding == "raw":
        return t
    if embedding == "fourier":
        w = math.pi * torch.tensor([1.0, 2.0, 4.0])
    else:
        w = 2 * math.pi * 100.0 ** (-torch.arange(8) / 8)
    return torch.cat([t, torch.cos(t * w), torch.sin(t * w)], 1)


def rms_norm(x, scale=None):
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)
    return y if scale is None else y * scale


def rotate(x, positions):
    """x [batch, n, heads, size]; half of the features turns by the row, half by the column; pairs lie half apart."""
    parts = []
    for axis, part in enumerate(torch.split(x, x.shape[-1] // 2, -1)):
        half = part.shape[-1] // 2
        angle = positions[:, axis, None] * 100.0 ** (-torch.arange(half) / half)
        cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
        a, b = part[..., :half], part[..., half:]
        parts += [a * cos - b * sin, a * sin + b * cos]
    return torch.cat(parts, -1)


def network(c, P, z, times, label, guidance, interval):
    h, w, ch = c["dim"]
    p, hidden, heads = c["patch"], c["hidden"], c["heads"]
    n = z.shape[0]
    size = hidden // heads

    def linear(name, x):
        return x @ P[f"{name}/weight"] + P.get(f"{name}/bias", torch.zeros(()))

    def embedder(name, t):
        return linear(f"{name}/out", silu(linear(f"{name}/in", time_features(t, c["timeEmbedding"]))))

    def attend(name, x, positions):
        q, k, v = (y.reshape(n, -1, heads, size) for y in linear(f"{name}/qkv", x).split(hidden, -1))
        q = rotate(rms_norm(q, P[f"{name}/queryScale"]), positions)
        k = rotate(rms_norm(k, P[f"{name}/keyScale"]), positions)
        weights = torch.softmax(torch.einsum("nihd,njhd->nhij", q, k) / math.sqrt(size), -1)
        return linear(f"{name}/out", torch.einsum("nhij,njhd->nihd", weights, v).reshape(n, -1, hidden))

    def feed_forward(name, x):
        gate, value = linear(f"{name}/in", x).chunk(2, -1)
        return linear(f"{name}/out", silu(gate) * value)

    rows, columns = h // p, w // p
    patches = [
        z[:, i * p : (i + 1) * p, j * p : (j + 1) * p, :].reshape(n, -1) for i in range(rows) for j in range(columns)
    ]
    x = linear("patches", torch.stack(patches, 1))
    positions = torch.tensor([[float(i), float(j)] for i in range(rows) for j in range(columns)])
    given = [embedder(f"times/{i}", t) for i, t in enumerate(times)]
    if label is not None:
        given.append(P["labels/table"][label])
    if guidance is not None:
        given.append(embedder("guidance", 1 / guidance))
    if interval is not None:
        given += [embedder("guidanceStart", interval[0]), embedder("guidanceEnd", interval[1])]

    if c["conditioning"] == "adaLN-zero":
        told = silu(sum(given))

        def modulation(name, count):
            return [part[:, None, :] for part in linear(name, told).chunk(count, -1)]

        for i in range(c["depth"]):
            block = f"blocks/{i}"
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation(f"{block}/modulation", 6)
            x = x + gate1 * attend(f"{block}/attention", rms_norm(x) * (1 + scale1) + shift1, positions)
            x = x + gate2 * feed_forward(f"{block}/mlp", rms_norm(x) * (1 + scale2) + shift2)
        shift, scale = modulation("modulation", 2)
        x = rms_norm(x) * (1 + scale) + shift
    else:
        context = torch.cat([g[:, None, :] + P["context"][i] for i, g in enumerate(given)], 1)
        prefix = context.shape[1]
        x = torch.cat([context, x], 1)
        positions = torch.cat([torch.zeros(prefix, 2), positions])
        for i in range(c["depth"]):
            block = f"blocks/{i}"
            x = x + attend(f"{block}/attention", rms_norm(x, P[f"{block}/norms/0"]), positions)
            x = x + feed_forward(f"{block}/mlp", rms_norm(x, P[f"{block}/norms/1"]))
        x = rms_norm(x[:, prefix:], P["norm"])

    out = linear("head", x).reshape(n, rows, columns, p, p, ch)
    lines = []
    for i in range(rows):
        lines.append(torch.cat([out[:, i, j] for j in range(columns)], 2))
    return torch.cat(lines, 1)


# ---- The losses.


def column(t):
    return t[:, :, None, None]


def losses(c, u, data, noise, r, t):
    z, v = (1 - column(t)) * data + column(t) * noise, noise - data
    if not c["average"]:
        return {"flowMatching": ((u(z, t) - v) ** 2).mean()}
    found = {}
    for name in ("meanFlow", "improvedMeanFlow"):
        along = v if name == "meanFlow" else u(z, t, t).detach()
        _, slope = jvp(lambda z, t: u(z, r, t), (z, t), (along, torch.ones_like(t)))
        target = (v - column(t - r) * slope).detach()
        found[name] = ((u(z, r, t) - target) ** 2).mean()
    return found


base = {"patch": 2, "hidden": 16, "depth": 2, "heads": 2, "classes": 0, "guidance": False, "timeEmbedding": "sinusoidal"}
ada, context = {"conditioning": "adaLN-zero"}, {"conditioning": "in-context", "contextTokens": 2}
cases = [
    {**base, **ada, "average": False, "dim": [4, 4, 1], "classes": 3},
    {**base, **context, "average": False, "dim": [6, 4, 2], "classes": 3},
    {**base, **ada, "average": True, "dim": [6, 4, 2], "classes": 3},
    {**base, **context, "average": True, "dim": [4, 4, 1]},
    {**base, **context, "contextTokens": 3, "average": True, "dim": [4, 6, 1], "classes": 2, "guidance": True},
    {**base, **ada, "average": True, "dim": [4, 4, 1], "guidance": True, "timeEmbedding": "fourier"},
    {**base, **ada, "average": False, "dim": [3, 6, 1], "patch": 3, "heads": 4, "mlpHidden": 12, "timeEmbedding": "raw"},
    {**base, **ada, "average": True, "dim": [4, 4, 1], "classes": 2, "guidance": True, "guidanceInterval": True},
    {**base, **context, "average": False, "dim": [4, 4, 1], "guidance": True, "guidanceInterval": True},
]

n = 3
rows = []
for c in cases:
    described = parameter_list(c)
    P = {
        name: (offset + factor * pattern(shape, i)).requires_grad_()
        for i, (name, shape, offset, factor) in enumerate(described)
    }
    shape = [n, *c["dim"]]
    data, noise = pattern(shape, 100), 2 * pattern(shape, 101)
    t = torch.tensor([[0.25], [0.7], [0.9375]])
    r = torch.tensor([[0.25], [0.2], [0.5]])
    label = torch.tensor([c["classes"], 0, 1]) if c["classes"] > 0 else None  # the last one stands for none
    guidance = torch.tensor([[1.0], [2.5], [0.8]]) if c["guidance"] else None
    ends = torch.tensor([[[0.0], [0.125], [0.25]], [[1.0], [0.75], [0.5]]])
    interval = ends if c.get("guidanceInterval") else None

    def field(z, *times):
        t = times[-1]
        seen = [t, t - times[0]] if c["average"] else [t]
        return network(c, P, z, seen, label, guidance, interval)

    z, v = (1 - column(t)) * data + column(t) * noise, noise - data
    with torch.no_grad():
        if c["average"]:
            value, slope = jvp(lambda z, t: field(z, r, t), (z, t), (v, torch.ones_like(t)))
        else:
            value, slope = jvp(field, (z, t), (v, torch.ones_like(t)))
    found = {}
    for name, loss in losses(c, field, data, noise, r, t).items():
        grads = torch.autograd.grad(loss, list(P.values()))
        # Of each gradient: its sum, its product with pattern 200, and its first three elements.
        summary = [
            [g.sum().item(), (g * pattern(g.shape, 200)).sum().item(), *g.flatten()[:3].tolist()] for g in grads
        ]
        found[name] = {"loss": loss.item(), "gradient": summary}
    rows.append(
        {
            "options": c,
            "parameters": [[name, shape, offset, factor] for name, shape, offset, factor in described],
            "value": value.flatten().tolist(),
            "jvp": slope.flatten().tolist(),
            "losses": found,
        }
    )

text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
Path(__file__).with_name("dit.json").write_text(text)
