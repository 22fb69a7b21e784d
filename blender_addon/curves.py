"""F-curves of any data-block, alike in Blender 4.2 (Action.fcurves) and in 4.4 to 5.x (slots, layers and strips).

Our curves go into the action that the data-block already has, beside the artist's; where it has none, into one of our
own. In every version a data-block plays a single action and slot: a second one beside the artist's would need the NLA,
whose strips change how his curves behave and blend. Removing ours leaves his curves untouched, and removes an action
that only we had made.
"""

from collections.abc import Callable, Iterable

import bpy
import numpy as np

from ..core.errors import UnderstudyError

CONSTANT, LINEAR, BEZIER = 0, 1, 2  # Keyframe.interpolation
AUTO_CLAMPED = 4                    # Keyframe.handle_left_type
OURS = "understudy"                 # custom property of actions that we made


def curves_of(owner: bpy.types.ID) -> dict[tuple[str, int], bpy.types.FCurve]:
    """The curves that move a data-block, by (data path, array index); not its drivers and NLA strips."""
    bag = _bag(owner)
    return {} if bag is None else {(curve.data_path, curve.array_index): curve for curve in bag.fcurves}


def write(owner: bpy.types.ID, path: str, times: np.ndarray, values: np.ndarray, group: str = "",
          interpolation: int = LINEAR) -> bpy.types.FCurve:
    """Make one curve, or replace its keys. See `write_many`."""
    return write_many(owner, [(path, values)], times, group, interpolation)[0]


def write_many(owner: bpy.types.ID, channels: Iterable[tuple[str, np.ndarray]], times: np.ndarray, group: str = "",
               interpolation: int = LINEAR, index: int = 0) -> list[bpy.types.FCurve]:
    """Make curves with keys at the same times, or replace all keys of those that are there.

    channels : (data path, (n,) values).    times : (n,) scene frames, ascending.    group : name in the channel list.
    index : the element of an array property.
    BEZIER keys get handles that ease in and out and do not overshoot. Raises UnderstudyError if the action is linked.
    """
    bag = _ensure_bag(owner)
    known = curves_of(owner)
    into = (bag.groups.get(group) or bag.groups.new(group)) if group else None
    count = len(times)
    points = np.empty((count, 2), np.float32)
    points[:, 0] = times
    written = []
    for path, values in channels:
        curve = known.get((path, index)) or bag.fcurves.new(path, index=index)
        if into is not None:
            curve.group = into
        keys = curve.keyframe_points
        keys.clear()
        keys.add(count)
        points[:, 1] = values
        keys.foreach_set("co", points.ravel())
        keys.foreach_set("interpolation", np.full(count, interpolation, np.int32))
        for side in ("handle_left_type", "handle_right_type"):
            keys.foreach_set(side, np.full(count, AUTO_CLAMPED, np.int32))
        curve.update()
        written.append(curve)
    owner.animation_data.action.update_tag()
    owner.update_tag()
    return written


def read(curve: bpy.types.FCurve) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a curve's keys, (n,) float32 each."""
    points = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", points)
    return points[0::2], points[1::2]


def is_straight(curve: bpy.types.FCurve) -> bool:
    """Whether a curve runs straight from key to key and stays level outside, as it was written."""
    kinds = np.empty(len(curve.keyframe_points), np.int32)
    curve.keyframe_points.foreach_get("interpolation", kinds)
    return (kinds == LINEAR).all() and not curve.modifiers and not curve.mute and curve.extrapolation == "CONSTANT"


def move(curve: bpy.types.FCurve, factor: float, offset: float) -> None:
    """Move every key and handle from frame t to factor * t + offset."""
    keys = curve.keyframe_points
    for name in ("co", "handle_left", "handle_right"):
        points = np.empty(2 * len(keys), np.float32)
        keys.foreach_get(name, points)
        points[0::2] = points[0::2].astype(np.float64) * factor + offset
        keys.foreach_set(name, points)
    curve.update()


def remove(owner: bpy.types.ID, ours: Callable[[str], bool]) -> None:
    """Remove the curves whose data path is ours, and the action if we had made it and nothing is left in it."""
    if not any(ours(path) for path, _ in curves_of(owner)):
        return
    bag = _ensure_bag(owner)
    gone = [curve for curve in bag.fcurves if ours(curve.data_path)]
    groups = {curve.group.name for curve in gone if curve.group is not None}
    for curve in gone:
        bag.fcurves.remove(curve)
    for group in [bag.groups.get(name) for name in groups]:
        if group is not None and not len(group.channels):  # newer versions remove empty groups themselves
            bag.groups.remove(group)
    action = owner.animation_data.action
    if not len(bag.fcurves) and action.get(OURS) and action.users - action.use_fake_user <= 1:
        bpy.data.actions.remove(action)
    else:
        action.update_tag()
    owner.update_tag()


def keep_copy(owner: bpy.types.ID, name: str) -> bpy.types.Action | None:
    """A copy of the data-block's action that is saved although nothing uses it; None if it has no action."""
    action = owner.animation_data.action if owner.animation_data else None
    if action is None:
        return None
    copy = action.copy()
    copy.name, copy.use_fake_user = name, True
    return copy


def _layered(action: bpy.types.Action) -> bool:
    return hasattr(action, "layers")


def _bag(owner: bpy.types.ID):
    """What holds `fcurves` and `groups` of a data-block: the action itself, or its slot's part of a strip; or None."""
    data = owner.animation_data
    if data is None or data.action is None:
        return None
    if not _layered(data.action):
        return data.action
    strip = _strip(data.action)
    return None if strip is None or data.action_slot is None else strip.channelbag(data.action_slot)


def _ensure_bag(owner: bpy.types.ID):
    data = owner.animation_data or owner.animation_data_create()
    if data.action is None:
        data.action = bpy.data.actions.new(f"{_title(owner)} Understudy")
        data.action[OURS] = True
    elif data.action.library is not None:
        raise UnderstudyError(f"The action {data.action.name} is linked from another file: make it local, or give "
                              f"{_title(owner)} an action of its own.")
    elif _shared(owner, data):
        data.action = data.action.copy()  # the others keep theirs
    action = data.action
    if not _layered(action):
        return action
    if data.action_slot is None:
        data.action_slot = action.slots.new(id_type=owner.id_type, name=_title(owner))
    strip = _strip(action) or (action.layers[0] if action.layers else action.layers.new("Layer")).strips.new(
        type="KEYFRAME")
    return strip.channelbag(data.action_slot, ensure=True)


def _strip(action: bpy.types.Action):
    return action.layers[0].strips[0] if action.layers and action.layers[0].strips else None


def _shared(owner: bpy.types.ID, data: bpy.types.AnimData) -> bool:
    """Whether curves that we add would move another data-block too."""
    if not _layered(data.action):
        return data.action.users - data.action.use_fake_user > 1
    return data.action_slot is not None and any(user != owner for user in data.action_slot.users())


def _title(owner: bpy.types.ID) -> str:
    """The name of what is moved; shape keys have none that an artist knows."""
    return owner.user.name if isinstance(owner, bpy.types.Key) else owner.name
