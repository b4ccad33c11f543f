"""The dataset doctor names every recording that cannot be used, and every leak."""

import re
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ascfeat.audio import decode, write_wav
from ascfeat.doctor import check
from ascfeat.doctor.recordings import FULL_SCALE, clipped_share, content_digest, is_silent
from ascfeat.testing.datasets import write_tone, zipped
from ascschemas.problems import DatasetError

RATE = 8_000
SCENES = ("bus", "park")
NAMES = [f"{SCENES[n % 2]}-oslo-{n}-{n}-{d}" for n in range(8) for d in ("ab" if n < 2 else "a")]
TEST_PLACES = ("6", "7")


@pytest.fixture
def root(tmp_path):
    """Ten good recordings of 0.1 s at 8 kHz in the TAU layout, two places on the test side."""
    folder = tmp_path / "scenes"
    for number, name in enumerate(NAMES):
        write_tone(folder / "audio" / f"{name}.wav", number, seconds=0.1)
    write_lists(folder, test=[n for n in NAMES if n.split("-")[2] in TEST_PLACES])
    return folder


def write_lists(folder, test, unused=()):
    rows = {n: f"audio/{n}.wav\t{n.split('-')[0]}\t{'-'.join(n.split('-')[1:3])}\t{n[-1]}" for n in NAMES}
    head = "filename\tscene_label"
    (folder / "meta.csv").write_text("\n".join([f"{head}\tidentifier\tsource_label", *rows.values()]))
    (folder / "evaluation_setup").mkdir(exist_ok=True)
    sides = {"train": [n for n in NAMES if n not in test and n not in unused], "evaluate": test}
    for side, names in sides.items():
        lines = [head, *("\t".join(rows[n].split("\t")[:2]) for n in names)]
        (folder / "evaluation_setup" / f"fold1_{side}.csv").write_text("\n".join(lines))


def noise(path, *, rate=RATE, samples=800, channels=1, subtype="PCM_16"):
    samples = 0.1 * np.random.default_rng(9).standard_normal((channels, samples))
    write_wav(path, samples.astype(np.float32), rate, subtype)


def first(report, kind):
    return next(f for f in report.findings if f.kind == kind)


def kinds(report):
    return [f.kind for f in report.findings]


def test_good_dataset_has_no_finding(root):
    report = check(root)
    assert report.findings == ()
    assert (report.fit, report.clips, report.usable) == (True, 10, 10)
    assert str(report.audio) == "8000 Hz, 1 channel, 0.1 s"
    assert [(s.split, s.train, s.test, s.unused) for s in report.splits] == [("fold1", 8, 2, 0)]


def test_every_kind_of_unusable_recording_is_named(root):
    audio = [root / "audio" / f"{name}.wav" for name in NAMES]
    audio[0].unlink()
    audio[1].write_bytes(b"")
    audio[2].write_bytes(b"this is not audio")
    audio[3].write_bytes(audio[3].read_bytes()[:-400])
    write_wav(audio[4], np.full((1, 800), np.nan, dtype=np.float32), RATE, "FLOAT")
    noise(audio[5], rate=16_000, samples=1_600)
    noise(audio[6], channels=2)
    noise(audio[7], samples=720)
    report = check(root, threads=2)
    assert {f.kind: f.clips[0] for f in report.findings if f.severity == "unusable"} == {
        kind: f"audio/{name}.wav"
        for kind, name in zip(
            ("missing", "empty", "unreadable", "truncated", "nan", "wrong-rate", "wrong-channels", "wrong-length"),
            NAMES,
            strict=False,
        )
    }
    assert (report.fit, report.usable) == (False, 2)
    assert "expected 8000 Hz, found 16000 Hz" in first(report, "wrong-rate").detail
    assert "expected 0.1 s (800 samples), found 0.09 s (720 samples)" in first(report, "wrong-length").detail


def test_nothing_decodes(root):
    for path in (root / "audio").iterdir():
        path.write_bytes(b"nothing")
    report = check(root)
    assert (report.audio, report.usable, report.fit) == (None, 0, False)
    assert kinds(report) == ["unreadable"] * 10


def test_silence_clipping_and_small_differences_of_length_do_not_make_unfit(root):
    audio = [root / "audio" / f"{name}.wav" for name in NAMES]
    write_wav(audio[0], np.zeros((1, 800), dtype=np.float32), RATE)
    write_wav(audio[1], np.full((1, 800), 0.25, dtype=np.float32), RATE)
    write_wav(audio[2], np.clip(3 * np.sin(np.arange(800) / 20), -1, 1).astype(np.float32)[None], RATE)
    noise(audio[3], samples=792)
    report = check(root)
    assert report.fit
    assert kinds(report) == ["silent", "silent", "clipped", "length-fitted"]
    assert [f.clips[0] for f in report.findings] == [f"audio/{name}.wav" for name in NAMES[:4]]
    assert first(report, "length-fitted").detail == "792 samples, padded with zeros to 800 at extraction"


def test_duplicates_name_each_other_whatever_file_holds_them(root):
    one, two, three = (root / "audio" / f"{name}.wav" for name in (NAMES[4], NAMES[5], NAMES[-1]))
    samples = decode(one.read_bytes(), "one").samples
    write_wav(two, samples, RATE, "FLOAT")
    write_wav(three, samples, RATE, "PCM_24")
    found = first(check(root), "duplicate")
    assert found.clips == (f"audio/{NAMES[4]}.wav", f"audio/{NAMES[5]}.wav", f"audio/{NAMES[-1]}.wav")
    assert found.detail.endswith("and 1 more; they are labelled bus, park; they are on both sides of fold1")
    assert found.severity == "warning"


def test_silent_recordings_are_not_called_duplicates(root):
    for name in NAMES[:3]:
        write_wav(root / "audio" / f"{name}.wav", np.zeros((1, 800), dtype=np.float32), RATE)
    assert kinds(check(root)) == ["silent"] * 3


def test_recordings_that_no_list_names_are_extra(root):
    write_tone(root / "audio" / "stray.WAV", 99, seconds=0.1)
    (root / "audio" / f"{NAMES[0]}.wav").rename(root / "audio" / f"{NAMES[0].upper()}.WAV")
    report = check(root)
    details = {f.clips[0]: f.detail for f in report.findings if f.kind == "extra"}
    assert details["audio/stray.WAV"] == "no list names it"
    assert "only upper and lower case" in details[f"audio/{NAMES[0].upper()}.WAV"]
    assert kinds(report) == ["missing", "extra", "extra"]


def test_place_on_both_sides_is_a_leak_with_its_examples(root):
    moved = next(n for n in NAMES if n.split("-")[2] == "0")
    write_lists(root, test=[moved, *(n for n in NAMES if n.split("-")[2] in TEST_PLACES)])
    report = check(root)
    assert kinds(report) == ["leak-location", "leak-segment"]
    assert not report.fit
    location, segment = report.findings
    assert location.detail == (
        "location oslo-0 is on both sides of fold1: 1 clip in train (first audio/bus-oslo-0-0-b.wav), "
        "1 in test (first audio/bus-oslo-0-0-a.wav)"
    )
    assert segment.detail.endswith("; parallel recordings of devices a, b")
    assert (location.severity, location.split, len(location.clips)) == ("leak", "fold1", 2)


def test_clip_on_both_sides_is_a_leak(root):
    path = root / "evaluation_setup" / "fold1_train.csv"
    path.write_text(path.read_text() + f"\naudio/{NAMES[-1]}.wav\tpark")
    assert kinds(check(root)) == ["leak-clip", "leak-location", "leak-segment"]


def test_counts_by_class_device_city_and_side(root):
    report = check(root)
    rows = {(c.label, c.device, c.city): (c.clips, c.sides[0].train, c.sides[0].test) for c in report.counts}
    assert rows == {
        ("bus", "a", "oslo"): (4, 3, 1),
        ("bus", "b", "oslo"): (1, 1, 0),
        ("park", "a", "oslo"): (4, 3, 1),
        ("park", "b", "oslo"): (1, 1, 0),
    }


def test_counts_and_format_of_a_published_set_are_compared(root):
    report = check(root, kind="tut2018")
    assert report.official == "TUT-urban-acoustic-scenes-2018-development"
    found = {d.field: (d.expected, d.found) for d in report.count_differences}
    assert found["all classes, device a, train"] == ("6122", "6")
    assert found["tram, device a, test"] == ("261", "0")
    assert found["all classes, device b, train"] == ("0", "2")
    assert set(kinds(report)) == {"official-counts", "official-format"}
    assert first(report, "official-format").detail.endswith(
        "48000 Hz, 2 channels, 10 s; here 8000 Hz, 1 channel, 0.1 s"
    )
    assert report.fit


def test_archived_dataset_gets_the_same_report(root, tmp_path):
    packed = tmp_path / "packed" / "scenes"
    packed.mkdir(parents=True)
    zipped(root, packed / "scenes.zip", "scenes")
    assert check(packed) == check(root)


def test_damaged_archive_member_is_unreadable(root, tmp_path):
    packed = tmp_path / "packed" / "scenes"
    packed.mkdir(parents=True)
    zipped(root, packed / "scenes.zip", "scenes")
    with zipfile.ZipFile(packed / "scenes.zip") as archive:
        info = archive.getinfo(f"scenes/audio/{NAMES[0]}.wav")
    data = bytearray((packed / "scenes.zip").read_bytes())
    data[info.header_offset + 200] ^= 0xFF
    (packed / "scenes.zip").write_bytes(bytes(data))
    report = check(packed)
    assert [(f.kind, f.clips[0]) for f in report.findings] == [("unreadable", f"audio/{NAMES[0]}.wav")]


def test_clips_without_a_label_are_named(tmp_path):
    (tmp_path / "labels.csv").write_text("filename,label\na.wav,bus\nb.wav,\n")
    for number, name in enumerate("ab"):
        write_tone(tmp_path / f"{name}.wav", number)
    assert first(check(tmp_path), "unlabelled").clips == ("b.wav",)


def test_progress_counts_every_clip_once(root):
    seen = []
    check(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 10) for n in range(1, 11)]


def test_the_report_does_not_depend_on_threads(root):
    assert check(root, threads=1) == check(root, threads=4)


def test_an_error_on_the_way_does_not_wait_for_the_rest(root):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(root, progress=stop)


def test_unreadable_folder_is_an_error_and_not_a_finding(tmp_path):
    with pytest.raises(DatasetError):
        check(tmp_path / "nowhere")


def test_names_that_are_not_utf8_do_not_break_the_report(root):
    (root / "audio" / b"caf\xe9.wav".decode("utf-8", "surrogateescape")).write_bytes(b"")
    report = check(root)
    assert first(report, "extra").clips == ("audio/caf\\udce9.wav",)
    assert re.search(r"caf\\\\udce9", report.model_dump_json())


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 2), st.integers(0, 40)), elements=st.sampled_from([0.0, 0.5, 1.0, -1.0])
    )
)
def test_clipped_share_counts_what_a_loop_counts(samples):
    inside = 0
    for channel in np.abs(samples) >= FULL_SCALE:
        runs = re.findall("1{3,}", "".join("1" if full else "0" for full in channel))
        inside += sum(map(len, runs))
    assert clipped_share(samples) == pytest.approx(inside / samples.size if samples.size else 0.0)


def test_silence_is_every_channel_constant_to_one_16_bit_step():
    dither = np.array([[0, 1, -1, 0]], dtype=np.float32) / 32768
    assert is_silent(dither)
    assert is_silent(dither + 0.5)
    assert not is_silent(2 * dither)
    assert not is_silent(np.concatenate([dither, 4 * dither]))


def test_content_digest_tells_channels_and_rates_apart(tmp_path):
    digests = set()
    for number, (rate, channels) in enumerate([(8_000, 1), (16_000, 1), (8_000, 2)]):
        path = tmp_path / f"{number}.wav"
        write_wav(path, np.ones((channels, 80 // channels), dtype=np.float32) / 4, rate)
        digests.add(content_digest(decode(path.read_bytes(), path.name)))
    assert len(digests) == 3
