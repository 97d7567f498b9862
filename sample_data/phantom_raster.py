"""Draws geometric primitives into a CT grid with soft, partial-volume edges.

All lengths are millimetres. Points are (x, y, z) = (patient's right, anterior, superior) about
the centre of the grid; volumes are (D, H, W) with d = z, h = y, w = x. Every primitive touches
only the voxels of its own bounding box. Coverage is the share of a voxel that a primitive fills,
0..1, approximated from the signed distance between voxel centre and surface.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of the per-slice table that `paint_trunk` reads.
TRUNK_COLUMNS = (
    "body_half_width",
    "body_half_depth",
    "body_y",
    "fat_lateral",
    "fat_sagittal",
    "cavity_half_width",
    "cavity_half_depth",
    "cavity_y",
    "spine_y",
)


def edge_width(spacing: np.ndarray) -> float:
    """Width in mm over which an edge is blurred: the side of a cube as large as one voxel."""
    return float(np.prod(spacing) ** (1 / 3))


@njit(cache=True, fastmath=True)
def _squircle(x, y, a, b, q):
    """Signed distance (first order) to a rounded rectangle; q = 0 is an ellipse, 1 a box."""
    u = (x / a) ** 2
    v = (y / b) ** 2
    if u > 1.0 or v > 1.0:
        q = 0.0  # beyond the box the quartic term would fold back to "inside"
    gx = x / (a * a) * (1.0 - q * v)
    gy = y / (b * b) * (1.0 - q * u)
    return (u + v - q * u * v - 1.0) / (2.0 * np.sqrt(gx * gx + gy * gy) + 1e-6)


@njit(cache=True, fastmath=True)
def _soft(distance, edge):
    return min(1.0, max(0.0, 0.5 - distance / edge))


@njit(cache=True, fastmath=True)
def paint_trunk(volume, inside, spacing, edge, slices, pose, tissue, domes, apex, fluid):
    """Paint air, couch, skin, fat, muscle, lung, pleural fluid and upper abdomen.

    slices: (D, 9) as TRUNK_COLUMNS. pose: offset x, y, z, cos and sin of the roll.
    tissue: HU of fat, muscle, lung at mid depth, lung gradient (HU/mm), abdominal fat, liver.
    domes: (2, 4) right and left: top z, centre x, lateral fall, sagittal fall.
    apex: centre |x|, y, z, then semi-axes x, y, z. fluid: depth in mm, right and left.
    inside: receives the coverage of the pleural cavities and mediastinum, where vessels may run.
    """
    depth, height, width = volume.shape
    fat, muscle, lung_hu, gradient, belly, liver = tissue
    back = 0.0
    for d in range(depth):
        back = min(back, slices[d, 2] - slices[d, 1])
    for d in range(depth):
        z = (d - 0.5 * (depth - 1)) * spacing[0] - pose[2]
        ab, bb, yb, fl, fs, ac, bc, yc, ys = slices[d]
        for h in range(height):
            y0 = (h - 0.5 * (height - 1)) * spacing[1] - pose[1]
            for w in range(width):
                x0 = (w - 0.5 * (width - 1)) * spacing[2] - pose[0]
                x = pose[3] * x0 + pose[4] * y0
                y = pose[3] * y0 - pose[4] * x0
                cage = _squircle(x, y - yc, ac, bc, 0.3)
                if cage < -edge:
                    outer = 1.0
                    layer = muscle
                    value = 0.0
                else:
                    value = -1000.0
                    couch = y0 - back + 3.0 - x0 * x0 / 1500.0
                    if couch < edge and couch > -edge - 3.0 and abs(x0) < 190.0:
                        value += 420.0 * _soft(abs(couch + 1.5) - 1.5, edge)
                    skin = _squircle(x, y - yb, ab, bb, 0.45)
                    if skin > edge:
                        volume[d, h, w] = value
                        continue
                    outer = _soft(skin, edge)
                    m = _soft(_squircle(x, y - yb, ab - fl, bb - fs, 0.35), edge)
                    # A plane of fat parts the outer muscles from those between the ribs.
                    plane = 0.75 * min(1.0, max(0.0, (105.0 - z) / 25.0))
                    m *= 1.0 - plane * _soft(abs(cage - 14.0) - 1.4, edge)
                    layer = fat + m * (muscle - fat)
                if cage < edge:
                    side = 0 if x > 0 else 1
                    sign = 1.0 if x > 0 else -1.0
                    if z > apex[2]:
                        px = (x - sign * apex[0]) / apex[3]
                        py = (y - apex[1]) / apex[4]
                        pz = (z - apex[2]) / apex[5]
                        k0 = np.sqrt(px * px + py * py + pz * pz) + 1e-6
                        k1 = np.sqrt(
                            (px / apex[3]) ** 2 + (py / apex[4]) ** 2 + (pz / apex[5]) ** 2
                        )
                        cage = max(cage, k0 * (k0 - 1.0) / (k1 + 1e-6))
                    if abs(x) < 40.0 and y < ys + 16.0:
                        cage = max(cage, -_squircle(x, y - ys + 27.0, 31.0, 34.0, 0.2))
                    c = _soft(cage, edge)
                    above = 1.0
                    organ = belly
                    if z < domes[0, 0] + edge:
                        fall_x = max(0.0, sign * x - domes[side, 1]) / 62.0
                        fall_y = (y - 12.0) / 85.0
                        # The central tendon slopes from the right dome to the lower left one.
                        slope = min(1.0, max(0.0, 0.5 + x / 80.0))
                        dome = domes[1, 0] + slope * (domes[0, 0] - domes[1, 0])
                        dome -= domes[side, 2] * fall_x * fall_x + domes[side, 3] * fall_y * fall_y
                        above = _soft((dome - z) * 0.8, edge)
                        left_lobe = 14.0 + 0.62 * y + 0.12 * (z - domes[0, 0])
                        left_lobe = max(left_lobe - 0.004 * (y - 40.0) ** 2, -24.0)
                        organ += _soft(-x - left_lobe, edge) * (liver - belly)
                    content = lung_hu - gradient * y
                    if fluid[side] > 0.0:
                        level = yc - bc + fluid[side] * min(1.2, max(0.0, (60.0 - z) / 130.0))
                        level += 0.0003 * fluid[side] * (sign * x - 60.0) ** 2
                        content += _soft(y - level, edge) * (8.0 - content)
                    layer += c * (organ + above * (content - organ) - layer)
                    inside[d, h, w] = c * above
                volume[d, h, w] = value + outer * (layer - value)


@njit(cache=True, fastmath=True)
def paint_spine(volume, spacing, edge, slices, pose, bone, phase, pitch):
    """Paint vertebral bodies, discs and the spinal canal.

    bone: HU of cancellous bone, cortex, disc, canal. phase, pitch: z of one disc and the height
    of a vertebra with its disc, mm.
    """
    depth, height, width = volume.shape
    for d in range(depth):
        z = (d - 0.5 * (depth - 1)) * spacing[0] - pose[2]
        taper = 1.0 - 0.0018 * z
        to_disc = abs((z - phase) / pitch - np.round((z - phase) / pitch)) * pitch
        disc = _soft(to_disc - 2.6, 0.5 * edge)
        endplate = _soft(abs(to_disc - 4.5) - 1.2, edge)
        ys = slices[d, 8]
        cx = pose[0] - pose[4] * ys
        cy = pose[1] + pose[3] * ys
        h0 = max(0, int((cy - 60.0) / spacing[1] + 0.5 * (height - 1)))
        h1 = min(height, int((cy + 30.0) / spacing[1] + 0.5 * (height - 1)) + 2)
        w0 = max(0, int((cx - 40.0) / spacing[2] + 0.5 * (width - 1)))
        w1 = min(width, int((cx + 40.0) / spacing[2] + 0.5 * (width - 1)) + 2)
        for h in range(h0, h1):
            y0 = (h - 0.5 * (height - 1)) * spacing[1] - pose[1]
            for w in range(w0, w1):
                x0 = (w - 0.5 * (width - 1)) * spacing[2] - pose[0]
                x = pose[3] * x0 + pose[4] * y0
                y = pose[3] * y0 - pose[4] * x0 - ys
                value = volume[d, h, w]
                # The ring of laminae and pedicles around the canal, open towards the discs.
                ring = abs(np.sqrt(x * x + (y + 25.0 * taper) ** 2) - 11.5) - 2.4
                arch = _soft(ring, edge) * (1.0 - 0.6 * disc)
                value += arch * (bone[1] - 60.0 - value)
                canal = _soft(_squircle(x, y + 25.0 * taper, 9.5, 8.0, 0.2), edge)
                value += canal * (bone[3] - value)
                s = _squircle(x, y, 17.5 * taper, 14.5 * taper, 0.3)
                hu = bone[0] + (bone[1] - bone[0]) * max(_soft(-(s + 2.2), edge), 0.7 * endplate)
                hu += disc * (bone[2] - hu)
                value += _soft(s, edge) * (hu - value)
                volume[d, h, w] = value


@njit(cache=True, fastmath=True)
def paint_ellipsoids(volume, spacing, edge, centres, axes, radii, hus):
    """Paint ellipsoids over what is there, in order.

    centres: (n, 3). axes: (n, 3, 3), rows are unit vectors. radii: (n, 3) along the rows.
    """
    depth, height, width = volume.shape
    for i in range(len(hus)):
        half = np.zeros(3)
        for k in range(3):
            for j in range(3):
                half[k] += (axes[i, j, k] * radii[i, j]) ** 2
            half[k] = np.sqrt(half[k]) + edge
        c = centres[i]
        d0 = max(0, int(np.ceil((c[2] - half[2]) / spacing[0] + 0.5 * (depth - 1))))
        d1 = min(depth, int((c[2] + half[2]) / spacing[0] + 0.5 * (depth - 1)) + 1)
        h0 = max(0, int(np.ceil((c[1] - half[1]) / spacing[1] + 0.5 * (height - 1))))
        h1 = min(height, int((c[1] + half[1]) / spacing[1] + 0.5 * (height - 1)) + 1)
        w0 = max(0, int(np.ceil((c[0] - half[0]) / spacing[2] + 0.5 * (width - 1))))
        w1 = min(width, int((c[0] + half[0]) / spacing[2] + 0.5 * (width - 1)) + 1)
        for d in range(d0, d1):
            z = (d - 0.5 * (depth - 1)) * spacing[0] - c[2]
            for h in range(h0, h1):
                y = (h - 0.5 * (height - 1)) * spacing[1] - c[1]
                for w in range(w0, w1):
                    x = (w - 0.5 * (width - 1)) * spacing[2] - c[0]
                    k0 = 0.0
                    k1 = 0.0
                    for j in range(3):
                        p = axes[i, j, 0] * x + axes[i, j, 1] * y + axes[i, j, 2] * z
                        p /= radii[i, j]
                        k0 += p * p
                        k1 += (p / radii[i, j]) ** 2
                    k0 = np.sqrt(k0)
                    cover = _soft(k0 * (k0 - 1.0) / (np.sqrt(k1) + 1e-6), edge)
                    volume[d, h, w] += cover * (hus[i] - volume[d, h, w])


@njit(cache=True, fastmath=True)
def draw_capsules(volume, spacing, edge, capsules, union):
    """Draw tapered capsules, (n, 9): two end points, two radii, HU.

    union False: paint the HU over what is there, in order. union True: the volume holds a
    coverage and keeps the largest (the HU is not read), so that overlapping pieces of one tree
    leave no seams.
    """
    depth, height, width = volume.shape
    for i in range(len(capsules)):
        ax, ay, az, bx, by, bz, ra, rb, hu = capsules[i]
        # A tube thinner than a voxel fills only part of it, wherever the voxel centre lies.
        reach = max(ra, rb) + 0.5 * edge
        d0 = max(0, int(np.ceil((min(az, bz) - reach) / spacing[0] + 0.5 * (depth - 1))))
        d1 = min(depth, int((max(az, bz) + reach) / spacing[0] + 0.5 * (depth - 1)) + 1)
        h0 = max(0, int(np.ceil((min(ay, by) - reach) / spacing[1] + 0.5 * (height - 1))))
        h1 = min(height, int((max(ay, by) + reach) / spacing[1] + 0.5 * (height - 1)) + 1)
        w0 = max(0, int(np.ceil((min(ax, bx) - reach) / spacing[2] + 0.5 * (width - 1))))
        w1 = min(width, int((max(ax, bx) + reach) / spacing[2] + 0.5 * (width - 1)) + 1)
        ux, uy, uz = bx - ax, by - ay, bz - az
        length2 = ux * ux + uy * uy + uz * uz + 1e-9
        for d in range(d0, d1):
            z = (d - 0.5 * (depth - 1)) * spacing[0] - az
            for h in range(h0, h1):
                y = (h - 0.5 * (height - 1)) * spacing[1] - ay
                for w in range(w0, w1):
                    x = (w - 0.5 * (width - 1)) * spacing[2] - ax
                    t = min(1.0, max(0.0, (x * ux + y * uy + z * uz) / length2))
                    r = ra + t * (rb - ra)
                    dx, dy, dz = x - t * ux, y - t * uy, z - t * uz
                    cover = _soft(np.sqrt(dx * dx + dy * dy + dz * dz) - r, edge)
                    cover *= min(1.0, 6.0 * r * r / (edge * edge))
                    if union:
                        if cover > volume[d, h, w]:
                            volume[d, h, w] = cover
                    else:
                        volume[d, h, w] += cover * (hu - volume[d, h, w])


@njit(cache=True, fastmath=True)
def blend_arteries(volume, lumen, clot, inside, blood_hu, clot_hu):
    """Put enhanced blood and clot into the volume; both coverages are clipped in place.

    Clot takes its share out of the lumen, so an occluded artery has no bright fringe.
    Outside the lumen the clot coverage is left as it is: test both.
    """
    flat, lumens, clots, allowed = volume.ravel(), lumen.ravel(), clot.ravel(), inside.ravel()
    for i in range(flat.size):
        if lumens[i] > 0.0:
            lumens[i] *= allowed[i]
            clots[i] = min(clots[i], lumens[i])
            flat[i] += lumens[i] * (blood_hu - flat[i]) + clots[i] * (clot_hu - blood_hu)


@njit(cache=True, fastmath=True)
def add_noise(volume, noise, scale):
    """Add correlated noise (sd 1) of `scale` HU, round and clip to the scanner's range; int16.

    Noise is weaker in open air, where almost no photons are lost.
    """
    out = np.empty(volume.shape, np.int16)
    flat, grain, result = volume.ravel(), noise.ravel(), out.ravel()
    for i in range(flat.size):
        sd = scale if flat[i] > -960.0 else 0.35 * scale
        value = np.round(flat[i] + sd * grain[i])
        result[i] = np.int16(min(3071.0, max(-1024.0, value)))
    return out
