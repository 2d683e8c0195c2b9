"""JAX's side of the bench on a GPU: bench/gpu.ts asks for one piece of work at a time.

    gpu_jax.py --serve [--device cuda]            one JSON object a line, both ways; first out: {"ready": true, ...}
    gpu_jax.py [--device cuda] [--quick]          a list of works of its own; a line with the result of each

Works and answers are those of gpu_torch.py. Ways: "call", one call of a compiled function for each time; "scan", many
times in one compiled lax.scan.
"""

import argparse
import json
import math
import os
import signal
import sys
import time

signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench ends this process
answers = os.fdopen(os.dup(1), "w")  # compilers may print to stdout: only answers go there
os.dup2(2, 1)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the card is shared with the others of the bench

import jax
import jax.numpy as jnp
from jax import lax

parser = argparse.ArgumentParser()
parser.add_argument("--serve", action="store_true")
parser.add_argument("--device", default="cuda")
parser.add_argument("--quick", action="store_true")
options = parser.parse_args()
if options.device == "cuda" and jax.default_backend() != "gpu":
    sys.exit(f"JAX finds no CUDA device, only {jax.default_backend()}")

precisions = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def checkerboard(key, count):
    """Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2."""
    column_key, row_key, place_key = jax.random.split(key, 3)
    column = jax.random.randint(column_key, (count,), 0, 4)
    row = 2 * jax.random.randint(row_key, (count,), 0, 2) + column % 2
    return jnp.stack([column, row], 1) + jax.random.uniform(place_key, (count, 2)) - 2


def network(key, inputs, hidden, layers):
    sizes = [inputs] + [hidden] * layers + [2]
    params = []
    for a, b, layer_key in zip(sizes, sizes[1:], jax.random.split(key, layers + 1)):
        bound = 1 / math.sqrt(a)
        params.append((jax.random.uniform(layer_key, (a, b), minval=-bound, maxval=bound), jnp.zeros(b)))
    return params


def forwards(params, x):
    for weight, bias in params[:-1]:
        x = jax.nn.gelu(x @ weight + bias, approximate=False)
    weight, bias = params[-1]
    return x @ weight + bias


def step_loss(objective, batch):
    """The loss of the parameters on a fresh batch, as the objective has it."""
    point_rows = round(0.75 * batch) if objective == "mf75" else 0

    def loss(params, key):
        u = lambda z, r, t: forwards(params, jnp.concatenate([z, t, r], 1))

        def interval_errors(z, v, r, t):
            tangent = lax.stop_gradient(u(z, t, t)) if objective == "imf" else v
            value, slope = jax.jvp(u, (z, r, t), (tangent, jnp.zeros_like(r), jnp.ones_like(t)))
            return (value - lax.stop_gradient(v - (t - r) * slope)) ** 2

        data_key, noise_key, time_key = jax.random.split(key, 3)
        x, e = checkerboard(data_key, batch), jax.random.normal(noise_key, (batch, 2))
        v = e - x
        if objective == "fm":
            t = jax.random.uniform(time_key, (batch, 1))
            return jnp.mean((forwards(params, jnp.concatenate([(1 - t) * x + t * e, t], 1)) - v) ** 2)
        times = jax.random.uniform(time_key, (batch, 2))
        r, t = times.min(1, keepdims=True), times.max(1, keepdims=True)
        if point_rows > 0:  # r = t in these rows, which need no JVP; t is one uniform draw there
            points, rest = slice(None, point_rows), slice(point_rows, None)
            t = jnp.concatenate([times[points, :1], t[rest]])
            r = jnp.concatenate([times[points, :1], r[rest]])
        z = (1 - t) * x + t * e
        if point_rows == 0:
            return jnp.mean(interval_errors(z, v, r, t))
        point_errors = (u(z[points], r[points], t[points]) - v[points]) ** 2
        return jnp.mean(jnp.concatenate([point_errors, interval_errors(z[rest], v[rest], r[rest], t[rest])]))

    return loss


def training(request):
    """One step of a training with Adam, and the state before it."""
    loss = step_loss(request["objective"], request["batch"])
    key = jax.random.key(0)
    params = network(key, 3 if request["objective"] == "fm" else 4, request["hidden"], request["layers"])
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros(), zeros(), jnp.zeros((), jnp.int32))

    def step(state):
        params, first, second, count = state
        gradients = jax.grad(loss)(params, jax.random.fold_in(key, count))
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, second, gradients)
        n = count.astype(jnp.float32)
        rate, scale = 3e-3 / (1 - 0.9**n), 1 / (1 - 0.999**n)
        params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s * scale) + 1e-8), params, first, second)
        return params, first, second, count

    return step, state


def repeated(f, inputs):
    """f(*inputs) again and again as a step: the barrier keeps the compiler from doing it once for all times."""

    def step(state):
        (own, _) = lax.optimization_barrier((state[0], state[1]))
        return own, f(*own)

    shapes = jax.eval_shape(f, *inputs)
    return step, (inputs, jax.tree.map(lambda y: jnp.zeros(y.shape, y.dtype), shapes))


def dit(request):
    """A block of a diffusion transformer, as bench/gpu/dit.ts has it."""
    batch, tokens, width, heads, mlp = (request[name] for name in ("batch", "tokens", "width", "heads", "mlp"))
    size = width // heads
    keys = iter(jax.random.split(jax.random.key(0), 16))
    normal = lambda *shape: jax.random.normal(next(keys), shape)
    matrix = lambda rows, columns: normal(rows, columns) / math.sqrt(rows)
    params = [matrix(width, 3 * width), matrix(width, width), jnp.ones(size), jnp.ones(size)]
    params += [matrix(width, 2 * mlp), matrix(mlp, width), matrix(width, 6 * width), normal(6 * width)]
    x, c, dx, dc = (normal(*shape) for shape in [(batch, tokens, width), (batch, width)] * 2)
    w = normal(batch, tokens, width)
    side = math.isqrt(tokens)
    frequencies = 100.0 ** (-jnp.arange(size // 4) / (size // 4))
    position = jnp.stack([jnp.arange(tokens) // side, jnp.arange(tokens) % side], 1)
    angles = (position[:, :, None] * frequencies).reshape(tokens, 1, 2, 1, size // 4)
    cosine, sine = jnp.cos(angles), jnp.concatenate([-jnp.sin(angles), jnp.sin(angles)], 3)

    def rms(y):
        return y * lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6)

    def turned(y, scale):
        pairs = (rms(y) * scale).reshape(batch, tokens, heads, 2, 2, size // 4)
        return (pairs * cosine + jnp.flip(pairs, 4) * sine).reshape(batch, tokens, heads, size)

    def attend(q, k, v):
        scores = jnp.einsum("bnhd,bmhd->bhnm", q, k) * size**-0.5
        return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, -1), v)

    def block(params, x, c):
        qkv, out, q_scale, k_scale, into, back, modulation, bias = params
        parts = jnp.split((c @ modulation + bias)[:, None], 6, -1)
        projected = ((rms(x) * (1 + parts[1]) + parts[0]) @ qkv).reshape(batch, tokens, 3, heads, size)
        q, k, v = projected[:, :, 0], projected[:, :, 1], projected[:, :, 2]
        y = attend(turned(q, q_scale), turned(k, k_scale), v).reshape(batch, tokens, width)
        x = x + parts[2] * (y @ out)
        gate, value = jnp.split((rms(x) * (1 + parts[4]) + parts[3]) @ into, 2, -1)
        return x + parts[5] * ((jax.nn.silu(gate) * value) @ back)

    if request["work"] == "jvp":
        tangent = lambda params, x, c, dx, dc: jax.jvp(lambda x, c: block(params, x, c), (x, c), (dx, dc))
        return repeated(tangent, (params, x, c, dx, dc))
    gradients = lambda params, x, c, w: jax.grad(lambda params, x: jnp.sum(block(params, x, c) * w), (0, 1))(params, x)
    return repeated(gradients, (params, x, c, w))


def gemm(request):
    left, right = jax.random.split(jax.random.key(0))
    a = jax.random.normal(left, (request["m"], request["k"]))
    b = jax.random.normal(right, (request["k"], request["n"]))
    return repeated(jnp.matmul, (a, b))


kinds = {"step": training, "dit": dit, "gemm": gemm}


class Made:
    """A work, ready, with how often it is done in one measurement."""

    def __init__(self, request, target):
        self.name = json.dumps(request, sort_keys=True)
        step, self.state = kinds[request["task"]](request)
        if request["way"] == "call":
            self.run, self.inner = jax.jit(step, donate_argnums=0), 1
        else:
            self.run, self.inner = scanned(step, 50), 50
        self.seconds_of(1)
        calls = 1
        while (seconds := self.seconds_of(calls)) < target / 4 and calls < 100_000:
            calls *= 2
        self.calls = max(1, round(calls * target / seconds))

    def seconds_of(self, calls):
        jax.block_until_ready(self.state)
        start = time.perf_counter()
        for _ in range(calls):
            self.state = self.run(self.state)
        jax.block_until_ready(self.state)
        return time.perf_counter() - start


def scanned(step, length):
    """So many steps in one compiled function."""
    many = lambda state: lax.scan(lambda state, _: (step(state), None), state, None, length=length)[0]
    return jax.jit(many, donate_argnums=0)


def tutorial(request):
    """A whole training, with all that is made and compiled for it."""
    start = time.perf_counter()
    step, state = training(request)
    if request["way"] == "scan":
        state = scanned(step, request["steps"])(state)
    else:
        step = jax.jit(step, donate_argnums=0)
        for _ in range(request["steps"]):
            state = step(state)
    jax.block_until_ready(state)
    return {"seconds": [time.perf_counter() - start], "note": None}


made = {}


def answer(request):
    request = dict(request)
    target = request.pop("target", 0.1)
    request.pop("repeats", None)
    with jax.default_matmul_precision(precisions[request["precision"]]):
        if request["task"] == "tutorial":
            return tutorial(request)
        way, name = request["way"], json.dumps(request, sort_keys=True)
        if way not in made or made[way].name != name:
            made.pop(way, None)
            made[way] = Made(request, target)
        entry = made[way]
        return {"seconds": [entry.seconds_of(entry.calls) / (entry.calls * entry.inner)], "note": None}


def safely(request):
    try:
        return answer(request)
    except Exception as error:
        made.pop(request.get("way"), None)
        text = str(error).strip().split("\n")[0][:200]
        return {"error": f"{type(error).__name__}: {text}"}


def say(line):
    print(json.dumps(line), file=answers, flush=True)


def own_works():
    batch = 256 if options.quick else 4096
    for way in ["call", "scan"]:
        for objective in ["fm", "mf", "mf75", "imf"]:
            yield {"task": "step", "objective": objective, "hidden": 128, "layers": 4, "batch": batch, "way": way, "precision": "tf32"}
        for work in ["gradients", "jvp"]:
            size = {"batch": 4 if options.quick else 256, "tokens": 64, "width": 384, "heads": 6, "mlp": 1024}
            yield {"task": "dit", "work": work, **size, "way": way, "precision": "tf32"}
        yield {"task": "gemm", "m": 512, "n": 512, "k": 512, "way": way, "precision": "tf32"}


if options.serve:
    say({"ready": True, "version": f"JAX {jax.__version__}"})
    for line in sys.stdin:
        say(safely(json.loads(line)))
else:
    for request in own_works():
        say({**request, **safely(request)})
