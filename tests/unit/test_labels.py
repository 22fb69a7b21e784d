import numpy as np

from understudy.core.labels import Motions, sentences, suspicions

SIZE = 6.0


def smooth(frames=200, vertices=30):
    """A calm motion with a little noise, as of a good track; a face 6 units large."""
    rng = np.random.default_rng(0)
    time = np.arange(frames)[:, None, None]
    rest, way = rng.uniform(-4, 4, (vertices, 3)), rng.normal(0, .5, (vertices, 3))
    return rest + way * np.sin(time / 9) + rng.normal(0, .002, (frames, vertices, 3))


def found(positions, first=0):
    motions = Motions()
    for start in range(0, len(positions), 7):  # pieces of any size
        motions.feed(positions[start:start + 7])
    assert len(motions.steps) == len(motions.bends) == len(positions)
    return [(one.kind, one.first, one.last) for one in suspicions(motions.steps, motions.bends, SIZE, first)]


def test_a_good_track_is_not_suspected():
    assert found(smooth()) == []


def test_each_fault_is_found_where_it_is():
    positions = smooth()
    positions[50:53] = positions[49]   # held
    positions[90] += 1.0               # one frame beside the others
    positions[140:] += 2.0             # a cut
    assert found(positions, first=1000) == [("held", 1049, 1052), ("spike", 1090, 1090), ("jump", 1140, 1140)]


def test_frames_in_the_order_of_their_names_are_jumps():
    order = sorted(range(200), key=str)
    kinds = [kind for kind, _, _ in found(smooth()[order])]
    assert kinds.count("jump") + kinds.count("spike") > 5


def test_short_shots():
    for count in (1, 2, 3, 4):
        assert found(smooth(count)) == []


def test_sentences_list_a_few():
    positions = smooth(400)
    positions[20:400:25] += 1.5
    motions = Motions()
    motions.feed(positions)
    text, = sentences(suspicions(motions.steps, motions.bends, SIZE), 10)
    assert text.startswith("The frames 20, 45,") and "and 10 more leave the motion for one frame, by up to 2" in text
