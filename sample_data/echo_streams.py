"""Streams of blood through the mitral and aortic valves, and the jet of a leaking mitral valve."""

from __future__ import annotations

import numpy as np

from sample_data.echo_anatomy import JET_SHAPE, Flow, Plane, Sizes, bullet, xy
from sample_data.echo_cycle import Cycle
from sample_data.heart import Heart

# Ejection fraction times squared diameter times length of an ordinary left ventricle.
_STROKE = 0.62 * 48.0**2 * 88.0
_TO_APEX = (0.0, -1.0)


def add_mitral_streams(
    plane: Plane,
    heart: Heart,
    sizes: Sizes,
    cycle: Cycle,
    *,
    valve_x: float,
    septum: float,
    lean: float,
) -> None:
    """Adds filling, ejection and, with a leaking valve, the jet into the left atrium.

    Their speed goes with the square root of the stroke volume. valve_x: local x of the mitral
    orifice. septum: -1 where the septum is on the left in local coordinates, 1 on the right. lean:
    how far the streams turn towards the septum and back, which a transducer beside the long axis
    sees as motion towards it and away.
    """
    base = sizes.base
    ed = cycle.ed_frame
    stroke = heart.ejection_fraction * sizes.lv_width[ed] ** 2 * sizes.lv_length[ed] / _STROKE
    force = float(np.clip(np.sqrt(stroke), 0.55, 1.2))
    filling = bullet(
        xy(valve_x, base + 20.0), 0.68 * sizes.lv_width, 78.0, (0.62, 0.75), axis=_TO_APEX
    )
    plane.flows.append(Flow(contour=filling, direction=(lean, -1.0), speed=force * cycle.mitral))
    tract = xy(septum * 0.45 * sizes.base_half, base + 2.0)
    ejection = bullet(tract, 0.52 * sizes.lv_width, 55.0, (0.5, 0.8), axis=_TO_APEX)
    plane.flows.append(
        Flow(contour=ejection, direction=(-0.7 * lean, 1.0), speed=force * cycle.aortic)
    )
    if heart.regurgitation > 0.0:
        orifice = xy(valve_x, base - 3.0)
        axis = (0.1 - 0.6 * lean, 1.0)
        plane.flows.append(regurgitant_jet(heart, cycle, orifice, sizes.la_width, axis))


def regurgitant_jet(
    heart: Heart, cycle: Cycle, orifice: np.ndarray, atrium: np.ndarray, axis: tuple[float, float]
) -> Flow:
    """The turbulent plume of mitral regurgitation from `orifice` (F, 2) along `axis`.

    Its width and length are shares of the diameter of the `atrium` (F,) that grow with the
    severity: 0.14 and 0.28 of it for a trace, 0.64 and 1.13 for a severe leak.
    """
    leak = heart.regurgitation
    width, length = (0.14 + 0.50 * leak) * atrium, (0.28 + 0.85 * leak) * atrium
    return Flow(
        contour=bullet(orifice, width, length, JET_SHAPE, axis=axis),
        direction=axis,
        speed=1.05 * cycle.systole,
        turbulent=True,
    )
