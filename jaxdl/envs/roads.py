"""A road with an obstacle in the middle, which can be passed on either side."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxdl.envs.environments import Environment, Step
from jaxdl.envs.rollouts import Policy


class Car(NamedTuple):
    """Position across the road, and steps to the obstacle; float32 scalars."""

    x: Array
    distance: Array


SPEED = 0.3  # sideways, for a steering of 1
HALF_WIDTH = 1.0  # of the obstacle
DISTANCE = 4  # steps at the start: passing needs five sixths of full steering, from the first step on
OFFSET = 0.05  # largest |x| at the start


def obstacle_road() -> Environment:
    """Returns a road on which a car meets an obstacle after 4 steps, and has to steer left or right from the start.

        x <- x + 0.3 clip(a, -1.5, 1.5),  distance <- distance - 1;  crash if |x| < 1 at distance 0

    An action is the steering a, float32 [1], negative for left; the observation is (x, distance / 4), float32 [2]. The
    car starts near the middle, |x| <= 0.05. At distance 0 the episode ends, with reward 1 if the car passes and 0 if it
    crashes. Left and right are equally good; their mean, straight ahead, is a crash.
    """
    look = lambda car: jnp.stack([car.x, car.distance / DISTANCE])

    def reset(key: Array) -> tuple[Car, Array]:
        car = Car(jax.random.uniform(key, (), minval=-OFFSET, maxval=OFFSET), jnp.float32(DISTANCE))
        return car, look(car)

    def step(car: Car, action: Array, key: Array) -> Step:
        new = Car(car.x + SPEED * jnp.clip(action[0], -1.5, 1.5), car.distance - 1)
        over = new.distance <= 0
        passed = over & (jnp.abs(new.x) >= HALF_WIDTH)
        return Step(new, look(new), passed.astype(jnp.float32), over, jnp.zeros((), bool), look(new))

    return Environment(reset, step, (2,), (1,))


def demonstrator(noise: float = 0.1) -> Policy:
    """Returns a driver who turns left or right with equal probability, and then keeps to that side.

    The steering is side + noise N(0, 1). The memory is the side, -1 or 1, and 0 at the start of an episode.
    """

    def policy(side: Array, observation: Array, key: Array) -> tuple[Array, Array]:
        key_of_side, key_of_noise = jax.random.split(key)
        chosen = jnp.where(jax.random.bernoulli(key_of_side), 1.0, -1.0)
        side = jnp.where(side == 0, chosen, side)
        return side, side[None] + noise * jax.random.normal(key_of_noise, (1,))

    return policy
