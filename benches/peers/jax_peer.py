"""JAX: `jax_peer.py DIR MODEL EPOCHS`. A whole epoch is one compiled scan over batches; compiling it is not counted.

The convolutional network is left out: JAX did not finish an epoch of it on two cores within ten minutes.
"""

import sys
import time

import jax
import jax.numpy as jnp
import optax
from jax import lax, random

from data import mnist, report

folder, model, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
x, y, test_x, test_y = map(jnp.asarray, mnist(folder))
BATCH = 128


def dense(key, inputs, outputs):
    return {"w": random.normal(key, (inputs, outputs)) * (2 / inputs) ** 0.5, "b": jnp.zeros(outputs)}


def linear(p, h):
    return h @ p["w"] + p["b"]


def drop(key, h, train):
    return jnp.where(random.bernoulli(key, 0.8, h.shape), h / 0.8, 0) if train else h


def init(key):
    a, b, c, d = random.split(key, 4)
    if model == "mlp":
        return {"a": dense(a, 784, 128), "b": dense(b, 128, 128), "c": dense(c, 128, 10)}
    recurrent = random.normal(d, (128, 512)) * 0.08
    return {"x": dense(a, 28, 512), "h": recurrent, "b": dense(b, 128, 128), "c": dense(c, 128, 10)}


def cell(p):
    def step(state, sums):
        h, c = state
        i, f, g, o = jnp.split(sums + h @ p["h"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    return step


def forward(p, x, key, train):
    first, second = random.split(key)
    if model == "mlp":
        h = jax.nn.relu(linear(p["a"], x.reshape(-1, 784)))
    else:
        zero = jnp.zeros((x.shape[0], 128))
        (h, _), _ = lax.scan(cell(p), (zero, zero), jnp.swapaxes(linear(p["x"], x), 0, 1))
    h = jax.nn.relu(linear(p["b"], drop(first, h, train)))
    return linear(p["c"], drop(second, h, train))


def loss(p, x, y, key):
    return optax.softmax_cross_entropy_with_integer_labels(forward(p, x, key, True), y).mean()


optimizer = optax.adam(1e-3)


@jax.jit
def train(p, state, key):
    order = random.permutation(key, len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)

    def step(carry, batch):
        p, state, key = carry
        key, of_step = random.split(key)
        updates, state = optimizer.update(jax.grad(loss)(p, x[batch], y[batch], of_step), state)
        return (optax.apply_updates(p, updates), state, key), None

    (p, state, _), _ = lax.scan(step, (p, state, key), order)
    return p, state


p = init(random.PRNGKey(0))
state = optimizer.init(p)
jax.block_until_ready(train(p, state, random.PRNGKey(9)))
for epoch in range(1, epochs + 1):
    start = time.perf_counter()
    p, state = jax.block_until_ready(train(p, state, random.PRNGKey(epoch)))
    seconds = time.perf_counter() - start
    accuracy = float((forward(p, test_x, random.PRNGKey(0), False).argmax(1) == test_y).mean())
    report(epoch, seconds, len(x), accuracy)
