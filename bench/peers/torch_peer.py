"""PyTorch's side of the bench: does one piece of work at a time, as asked on stdin, and answers on stdout.

One JSON object a line, both ways. First line out: {"ready": true, "torch": version, "blas": name}. Requests:
  {"task": "gemm", "m": 4096, "n": 128, "k": 128, "batch": 1, "transposed": "none" | "left" | "right", ...}
  {"task": "step", "objective": "fm" | "mf" | "imf", "hidden": 128, "layers": 4, "batch": 4096,
   "jvp": "forward" | "double-backward", ...}
each with "threads" and "repeats". Answer: {"seconds": [one for each repeat]} or {"error": text}.
What a request needs (matrices, network, optimizer) is made once and kept: training goes on from request to request.
"""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch

try:
    from functorch import jvp as forward_jvp
except ImportError:
    forward_jvp = None


def gemm(request):
    batch, m, n, k = (request[name] for name in ("batch", "m", "n", "k"))
    lead = (batch,) if batch > 1 else ()
    left = torch.randn(*lead, k, m).mT if request["transposed"] == "left" else torch.randn(*lead, m, k)
    right = torch.randn(*lead, n, k).mT if request["transposed"] == "right" else torch.randn(*lead, k, n)
    out = torch.empty(*lead, m, n)
    inner = request["inner"]

    def work():
        for _ in range(inner):
            torch.matmul(left, right, out=out)

    return work


def checkerboard(count):
    """Points uniform on the dark tiles of a 4 x 4 board over [-2, 2]^2."""
    column = torch.randint(0, 4, (count,))
    row = 2 * torch.randint(0, 2, (count,)) + column % 2
    return torch.stack([column, row], 1) + torch.rand(count, 2) - 2


def network(inputs, hidden, layers):
    sizes = [inputs] + [hidden] * layers
    blocks = []
    for a, b in zip(sizes, sizes[1:]):
        blocks += [torch.nn.Linear(a, b), torch.nn.GELU()]
    return torch.nn.Sequential(*blocks, torch.nn.Linear(hidden, 2))


def double_backward_jvp(f, primals, tangents):
    """J v as the derivative of w -> w^T J, which is linear in w."""
    primals = [x.detach().requires_grad_() for x in primals]
    y = f(*primals)
    w = torch.zeros_like(y, requires_grad=True)
    pulled = torch.autograd.grad(y, primals, w, create_graph=True)
    return y, torch.autograd.grad(pulled, w, tangents, retain_graph=True)[0]


def step(request):
    objective, batch = request["objective"], request["batch"]
    net = network(3 if objective == "fm" else 4, request["hidden"], request["layers"])
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    jvp = forward_jvp if request.get("jvp") == "forward" else double_backward_jvp
    if jvp is None:
        raise ImportError("functorch is not installed")
    u = lambda z, r, t: net(torch.cat([z, t, r], 1))

    def loss():
        x, e = checkerboard(batch), torch.randn(batch, 2)
        v = e - x
        if objective == "fm":
            t = torch.rand(batch, 1)
            return ((net(torch.cat([(1 - t) * x + t * e, t], 1)) - v) ** 2).mean()
        times = torch.rand(batch, 2)
        r, t = times.amin(1, keepdim=True), times.amax(1, keepdim=True)
        z = (1 - t) * x + t * e
        tangent = v
        if objective == "imf":
            with torch.no_grad():
                tangent = u(z, t, t)
        value, slope = jvp(u, (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t)))
        return ((value - (v - (t - r) * slope).detach()) ** 2).mean()

    def work():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return work


kinds = {"gemm": gemm, "step": step}
made = {}


def answer(request):
    torch.set_num_threads(request.pop("threads"))
    repeats = request.pop("repeats")
    name = json.dumps(request, sort_keys=True)
    if name not in made:
        made[name] = kinds[request["task"]](request)
        made[name]()
        made[name]()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        made[name]()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def blas():
    """The matrix library in use, by the name of its file; "reference" is the slow one without any tuning."""
    torch.ones(64, 64) @ torch.ones(64, 64)
    with open("/proc/self/maps") as maps:
        files = maps.read()
    return next((name for name in ("openblas", "mkl", "blis", "atlas") if name in files), "reference")


print(json.dumps({"ready": True, "torch": torch.__version__, "blas": blas()}), flush=True)
for line in sys.stdin:
    try:
        reply = answer(json.loads(line))
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
