"""The format in Java reads what the collector's decoder reads and refuses what it refuses; rows, options, counters."""

import base64
import hashlib
import random
import re
import struct
from collections.abc import Iterator, Mapping

import cramjam
import pytest
from collector_bodies import (
    STALE_BITS,
    MalformedError,
    fields,
    float_bits,
    label,
    message,
    read_label,
    read_sample,
    sample,
    series,
    snappy,
    up,
)
from conftest import Lines, Miniature
from test_collector_fuzz import SEEDS

from collector.contract.samples import CorruptRecord, SampleDecoder

pytestmark = pytest.mark.end_to_end
"""They need a JDK and the installed Flink."""

EVERY = "ROW<ts BIGINT, `value` DOUBLE, series STRING>"
TELLING = bytes.fromhex("00010a0b121a227f80c3edf4ff")

Sample = tuple[str, int, int]


def text(field: str) -> str:
    return base64.b64decode(field).decode()


def by_record(lines: Lines) -> Iterator[list[list[str]] | None]:
    """Rows of each record in turn, None where it was refused."""
    rows: list[list[str]] = []
    for line in lines:
        match line[0]:
            case "row":
                rows.append(line[1:])
            case "end":
                yield rows
                rows = []
            case "failed":
                yield None


def samples_of(rows: list[list[str]]) -> list[Sample]:
    return [(text(name), int(time), int(bits) & (1 << 64) - 1) for time, bits, name in rows]


def counters(lines: Lines) -> dict[str, int]:
    return {line[1]: int(line[2]) for line in lines if line[0] == "counter"}


def quoted(text: str) -> str:
    """As the exposition format quotes."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def named(labels: Mapping[str, str]) -> str:
    """A series in Prometheus notation, sorted by label as bytes sort."""
    identifier = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
    inside = [
        f"{name if identifier.fullmatch(name) else quoted(name)}={quoted(value)}"
        for name, value in sorted(labels.items())
        if name != "__name__" and value
    ]
    metric = labels.get("__name__", "")
    if metric and not re.fullmatch("[a-zA-Z_:][a-zA-Z0-9_:]*", metric):
        metric, inside = "", [quoted(metric), *inside]
    return f"{metric}{{{','.join(inside)}}}"


def is_valid(time: int, bits: int) -> bool:
    return time >= 0 and (bits >> 52) & 0x7FF != 0x7FF


def slowly(body: bytes) -> list[Sample] | None:
    """Valid samples of a body whose labels may stand anywhere; None where it is malformed."""
    found = []
    try:
        for number, kind, content in fields(body):
            if (number, kind) != (1, 2) or not isinstance(content, bytes):
                continue
            inside = [(field, part) for field, wire, part in fields(content) if wire == 2 and isinstance(part, bytes)]
            labels = {
                name.decode(): value.decode()
                for name, value in sorted(read_label(part) for field, part in inside if field == 1)
            }
            points = [read_sample(part) for field, part in inside if field == 2]
            found += [(named(labels), time, bits) for time, bits in points if is_valid(time, bits)]
    except (MalformedError, UnicodeDecodeError):
        return None
    return found


def by_decoder(decoder: SampleDecoder, body: bytes) -> list[Sample] | str | None:
    """Valid samples as our C decoder reads them; None where it refuses, its reason where that is its own."""
    try:
        samples = decoder.decode(snappy(body))
    except CorruptRecord as why:
        return "late" if "after a sample" in str(why) else None
    rows = zip(
        samples.series.tolist(), samples.timestamp_ms.tolist(), samples.value.view("uint64").tolist(), strict=True
    )
    return [(named(dict(decoder.labels(number))), time, bits) for number, time, bits in rows if is_valid(time, bits)]


def mutated(body: bytes, draw: random.Random) -> bytes:
    """What fuzz_samples.c does to a body."""
    found = bytearray(body)
    for _ in range(draw.randint(1, 4)):
        if not found:
            break
        at = draw.randrange(len(found))
        match draw.randrange(5):
            case 0:
                found[at] = draw.choice(TELLING)
            case 1:
                found[at] ^= 1 << draw.randrange(8)
            case 2:
                del found[at:]
            case 3:
                del found[at]
            case _:
                found[at:at] = found[at : at + draw.randint(1, 15)]
    return bytes(found)


@pytest.mark.parametrize("seed", [1, 20_240_607])
def test_reads_and_refuses_what_the_collectors_decoder_does(miniature: Miniature, seed: int) -> None:
    draw = random.Random(seed)
    bodies = [draw.choice(sorted(SEEDS.values())) for _ in range(6_000)]
    bodies = [mutated(body, draw) if draw.randrange(16) else body for body in bodies]
    # A small cache, so that it is emptied in the midst of it.
    lines = miniature("rows", EVERY, bodies, {"series-max": "200"})
    decoder = SampleDecoder()
    refused = late = 0
    for body, rows in zip(bodies, by_record(lines), strict=True):
        read = None if rows is None else samples_of(rows)
        assert read == slowly(body), body.hex()
        ours = by_decoder(decoder, body)
        if ours == "late":
            late += 1
            continue
        assert read == ours, body.hex()
        refused += read is None
    assert refused > 500
    assert late > 20


def test_snappy_blocks_are_those_of_the_library(miniature: Miniature) -> None:
    draw = random.Random(7)
    blocks, bodies = [], []
    for number in range(2_000):
        body = b"".join(up(draw.randrange(50), (draw.randrange(1 << 40), draw.random())) for _ in range(number % 90))
        block = mutated(snappy(body), draw) if number % 3 else snappy(body)
        try:
            declared = cramjam.snappy.decompress_raw_len(block) if block else 0
            content: bytes | None = bytes(cramjam.snappy.decompress_raw(block)) if declared <= 1 << 20 else None
        except cramjam.DecompressionError:
            content = None
        blocks.append(block)
        bodies.append(content if block else None)
    lines = miniature("rows", EVERY, blocks, {"compression": "snappy", "body-bytes-max": "1mb"})
    for block, content, rows in zip(blocks, bodies, by_record(lines), strict=True):
        read = None if rows is None else samples_of(rows)
        assert read == (None if content is None else slowly(content)), block.hex()


def test_a_block_that_declares_too_much_is_refused_before_memory_is_taken(miniature: Miniature) -> None:
    lines = miniature("rows", EVERY, [b"\xff\xff\xff\xff\x0f"], {"compression": "snappy"})
    assert lines[0] == ["failed", "not a remote-write record: declares 4294967295 bytes, more than 67108864"]


def test_columns_carry_what_they_are_named_after(miniature: Miniature) -> None:
    body = series({"zone": "z", "__name__": "up", "pod": 'a"\\\n', "empty": ""}, (1_700_000_000_123, 1.5))
    row = (
        "ROW<pod STRING, `value` DOUBLE, ts TIMESTAMP_LTZ(3), name STRING, series STRING, labels MAP<STRING, STRING>,"
        " absent STRING, series_id BIGINT, corrupt BYTES>"
    )
    pod, value, ts, name, text_of_series, labels, *rest = next(iter(by_record(miniature("rows", row, [body]))))[0]  # type: ignore[index]
    assert (text(pod), int(value), int(ts)) == ('a"\\\n', float_bits(1.5), 1_700_000_000_123)
    assert (text(name), text(text_of_series)) == ("up", 'up{pod="a\\"\\\\\\n",zone="z"}')
    assert sorted(tuple(map(text, pair.split(":"))) for pair in labels.split(",")) == [("pod", 'a"\\\n'), ("zone", "z")]
    # The first 8 bytes of the SHA-256 of the text: a number that others can work out too.
    assert rest == ["-", str(series_id('up{pod="a\\"\\\\\\n",zone="z"}')), "-"]


def series_id(name: str) -> int:
    (number,) = struct.unpack(">q", hashlib.sha256(name.encode()).digest()[:8])
    return int(number)


def test_names_that_are_no_identifiers_stand_in_quotes(miniature: Miniature) -> None:
    bodies = [
        series({"__name__": "my.metric", "a.b": "c"}, (1, 1.0)),
        series({"a": "b"}, (1, 1.0)),
        message(1, sample(1, 0)),
    ]
    names = [text(rows[0][2]) for rows in by_record(miniature("rows", EVERY, bodies)) if rows]
    assert names == ['{"my.metric","a.b"="c"}', '{a="b"}', "{}"]


def test_the_series_table_chooses_metrics_labels_and_values(miniature: Miniature) -> None:
    def one(name: str, value: float, **labels: str) -> bytes:
        return series({"__name__": name, **labels}, (1, value))

    bodies = [
        one("used", 100.0, pod="p", job="a"),
        one("used", 101.0, pod="p"),
        one("used", -101.5, pod="p"),
        one("other", 1.0, pod="p"),
        one("plain", 1e308, pod="p"),
        message(
            1, label("__name__", "used") + sample(1, STALE_BITS) + sample(-5, 0) + sample(3, float_bits(float("inf")))
        ),
    ]
    lines = miniature("rows", EVERY, bodies, {"series-table": "used <101.0 pod node\nplain"})
    rows = [row for rows in by_record(lines) if rows for row in rows]
    assert [text(row[2]) for row in rows] == ['used{pod="p"}', "plain{}"]
    assert counters(lines) == {
        "samples": 2,
        "dropped_unknown": 1,
        "dropped_stale": 1,
        "dropped_invalid": 3,
        "dropped_time": 1,
        "corrupt_records": 0,
    }


def test_a_metric_with_several_rules_is_several_series(miniature: Miniature) -> None:
    """A card's series by its own labels, and once more with the pod where there is one."""
    used = {"__name__": "used", "gpu": "g"}
    bodies = [series({**used, **pod}, (1, 1.0)) for pod in ({"pod": "p"}, {}, {"pod": "q"})]
    lines = miniature("rows", EVERY, bodies, {"series-table": "used <101.0 gpu\nused <101.0 gpu pod"})
    rows = [[text(row[2]) for row in rows or []] for rows in by_record(lines)]
    card = 'used{gpu="g"}'
    assert rows == [[card, 'used{gpu="g",pod="p"}'], [card], [card, 'used{gpu="g",pod="q"}']]
    assert counters(lines)["samples"] == 5


def test_a_series_is_named_once_a_window(miniature: Miniature) -> None:
    times = [0, 299_999, 300_000, 150_000, 310_000, 600_000, 1, 300_001]
    body = b"".join(up(0, (time, 1.0)) + up(1, (time, 1.0)) for time in times)
    lines = miniature("rows", EVERY, [body], {"series-window": "5 min"})
    rows = next(iter(by_record(lines)))
    assert rows is not None
    assert [row[2] != "-" for row in rows[::2]] == [
        True,
        False,
        True,
        False,
        False,
        True,
        # Two windows are remembered; an older one is named again, which does no harm.
        True,
        True,
    ]


@pytest.mark.parametrize("what", ["skip", "row"])
def test_a_record_that_cannot_be_read_gives_nothing_else(miniature: Miniature, what: str) -> None:
    corrupt = up(1, (5, 1.0)) + b"\x0a\xff"
    lines = miniature(
        "rows",
        "ROW<ts BIGINT, `value` DOUBLE, corrupt BYTES>",
        [up(0, (7, 1.0)), corrupt, b"", b"\x0b"],
        {"on-corrupt": what},
    )
    found = list(by_record(lines))
    bad = [[["7", "-", base64.b64encode(each).decode()]] if what == "row" else [] for each in (corrupt, b"\x0b")]
    assert found == [[["7", str(float_bits(1.0)), "-"]], bad[0], [], bad[1]]
    assert counters(lines)["corrupt_records"] == 2


def test_the_future_is_dropped_by_this_machines_clock(miniature: Miniature) -> None:
    lines = miniature("rows", EVERY, [up(0, (1, 1.0), (1 << 60, 1.0))], {"future-max": "10 min"})
    assert counters(lines)["dropped_time"] == 1
    assert counters(lines)["samples"] == 1
