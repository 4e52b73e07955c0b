"""The Kafka log: all partitions of one topic, each from a place of our own, put into one order by receive time.

Partitions are assigned by us, never by a group; offsets are committed only for others to see how far we are. Without
``follow`` the log ends at the high watermarks that were seen when reading began, so that a busy topic has an end.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from collector.contract.record import Position, Record
from collector.contract.topic import RECORD_BYTES_MAX
from egpu_runtime.contract.process import Failure
from pipeline.frontier import START_OF_PARTITIONS, Frontier
from pipeline.hours import FUTURE_MS_MAX
from pipeline.merging import Merge
from pipeline.reading import READER_NAME, resume_after
from pipeline.silence import Silence, Waiting
from pipeline.topic_record import Topic, record_of, topic_id_text

_CLIENT_LOG: Final = logging.getLogger("egpu-pipeline.kafka")
_CLIENT_LOG.addHandler(logging.NullHandler())
# What the client library says of lost connections is repeated by us in a sentence of our own.
_CLIENT_LOG.propagate = False

GROUP: Final = f"egpu-{READER_NAME}"
"""Group whose committed offsets say how far we are; a ``group.id`` in the properties is used instead."""

_BOUNDS: Final = {"queued.max.messages.kbytes": 32_768, "fetch.queue.backoff.ms": 20, "fetch.wait.max.ms": 100}
"""What the client library reads ahead, kilobytes over all partitions; after how long it asks on when that is full (its
own second leaves us idle); and how long a broker may wait for more."""

_ANSWER_SECONDS_MAX: Final = 5.0
_POLL_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 10.0
"""How often it is looked whether the topic is still the same."""

_MESSAGES_MAX: Final = 16
"""Messages taken from the client library at once, count; a partition is held back only between two takings."""

_HELD_BYTES_MAX: Final = 64 << 20
"""Bytes of records held until their turn; a partition that is ahead of the others waits for them."""

_REFUSED: Final = {
    KafkaError._AUTHENTICATION: "refused our login",
    KafkaError._SSL: "does not speak TLS as we do",
    KafkaError.SASL_AUTHENTICATION_FAILED: "refused our login",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "does not let us read the topic",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "does not let us read the topic",
}
_MISSING: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_MOVED: Final = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)

T = TypeVar("T")


class _Moved(Exception):  # noqa: N818 - reads as the sentence "raise _Moved"
    """An offset is not in the log any more."""


def _note(topic: Topic, silence: Silence, error: KafkaError) -> None:
    """Keep an error of the client library: which pass by themselves, and which do not."""
    final = _REFUSED.get(error.code(), "")
    if error.code() in _MISSING:
        silence.note(error.str(), final=f"has no topic {topic.name}")
    else:
        silence.note(error.str(), final=f"{final}: {error.str()}" if final else "")


def _properties(topic: Topic, silence: Silence) -> dict[str, Any]:
    """What every client of ours is made with; nobody's properties go over these."""
    return {
        **topic.properties,
        "bootstrap.servers": topic.bootstrap_servers,
        "error_cb": functools.partial(_note, topic, silence),
        "logger": _CLIENT_LOG,
    }


def _consumer(topic: Topic, silence: Silence) -> Consumer:
    ours = {
        **_properties(topic, silence),
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "fetch.message.max.bytes": RECORD_BYTES_MAX,
    }
    try:
        return Consumer({"group.id": GROUP, **_BOUNDS, **ours})
    except KafkaException as error:
        raise Failure(f"kafka_properties: {error.args[0].str()}") from error


def _admin(topic: Topic, silence: Silence) -> AdminClient:
    properties = _properties(topic, silence)
    properties.pop("group.id", None)
    try:
        return AdminClient(properties)
    except KafkaException as error:
        raise Failure(f"kafka_properties: {error.args[0].str()}") from error


class _Reader:
    """One pass over some partitions from given offsets, by receive time."""

    def __init__(self, topic: Topic, merge: Merge, *, silence: Silence, offsets: Mapping[int, int]) -> None:
        self._topic = topic
        self._merge = merge
        self._silence = silence
        self._paused: set[int] = set()
        self._consumer = _consumer(topic, silence)
        self._consumer.assign([TopicPartition(topic.name, *place) for place in offsets.items()])

    def take(self, sample_count_max: int) -> list[Record]:
        """Some records in order, none at the log's end. Raises _Moved, Failure and ReadingStopped."""
        if self._merge.is_at_end:
            self._poll(0.0)
        taken: list[Record] = []
        samples = 0
        while samples < sample_count_max and not self._merge.is_at_end:
            some = self._merge.take(sample_count_max - samples)
            taken += some
            samples += sum(record.sample_count for record in some)
            if not self._poll(0.0 if taken else _POLL_SECONDS) and taken:
                break
        return taken

    def _poll(self, seconds: float) -> bool:
        """Hand messages to the merge; whether there were any."""
        messages = self._consumer.consume(_MESSAGES_MAX, 0.0)
        if not messages:
            one = self._consumer.poll(seconds)
            messages = [one] if one is not None else []
        for message in messages:
            self._hand_on(message)
        self._hold_back()
        if not messages and seconds:
            self._silence.go_on()
        return bool(messages)

    def _hand_on(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._silence.end()
            position = Position(message.partition() or 0, (message.offset() or 0) + 1)
            value = message.value() or b""
            self._merge.put(record_of(position, message.timestamp()[1], headers=message.headers() or (), value=value))
        elif error.code() == KafkaError._PARTITION_EOF:
            self._silence.end()
            self._merge.end(message.partition() or 0)
        elif error.code() in _MOVED:
            raise _Moved
        else:
            _note(self._topic, self._silence, error)

    def _hold_back(self) -> None:
        """Let partitions that are ahead wait for the others, so that what is held stays bounded."""
        full = self._merge.fuller_than(_HELD_BYTES_MAX)
        if full - self._paused:
            self._consumer.pause([TopicPartition(self._topic.name, partition) for partition in full - self._paused])
            self._paused |= full
        drained = self._paused - self._merge.fuller_than(_HELD_BYTES_MAX // 2)
        if drained:
            self._consumer.resume([TopicPartition(self._topic.name, partition) for partition in drained])
            self._paused -= drained

    def close(self) -> None:
        """Let go of the brokers."""
        self._consumer.close()


class KafkaLog:
    """The topic for reading. Raises Failure where a person can act, LogGap for lost records, ReadingStopped when told
    to stop while no broker answers.

    ``identity`` is the topic's id, empty while it is not known or the brokers give none.
    """

    start = START_OF_PARTITIONS
    """Before the first record; a frontier of this log has a place for each partition."""

    def __init__(self, topic: Topic, waiting: Waiting) -> None:
        self._topic = topic
        self._waiting = waiting
        self.identity = ""
        self._answer_seconds = min(_ANSWER_SECONDS_MAX, waiting.seconds)
        self._silence = Silence(waiting, f"Kafka at {topic.bootstrap_servers}")
        self._control = _consumer(topic, self._silence)
        self._admin = _admin(topic, self._silence)
        self._reader: _Reader | None = None
        self._reached = START_OF_PARTITIONS
        self._ends: dict[int, int] | None = None
        self._looked_at = 0.0
        self._reading = threading.Lock()

    @property
    def name(self) -> str:
        """Topic and brokers."""
        return f"{self._topic.name} at {self._topic.bootstrap_servers}"

    def _new_silence(self) -> Silence:
        return Silence(self._waiting, f"Kafka at {self._topic.bootstrap_servers}", known=True)

    def _ask(self, question: Callable[[], T]) -> T:
        """An answer of the brokers, asked for again while they are away."""
        while True:
            try:
                answer = question()
            except KafkaException as failed:
                _note(self._topic, self._silence, failed.args[0])
                self._control.poll(_POLL_SECONDS)
                self._silence.go_on()
            else:
                self._silence.end()
                return answer

    def _describe(self) -> tuple[str, list[int]]:
        """The topic's id and its partitions."""
        name = self._topic.name
        asked = TopicCollection([name])
        found = self._ask(
            lambda: self._admin.describe_topics(asked, request_timeout=self._answer_seconds)[name].result()
        )
        return topic_id_text(found.topic_id), sorted(partition.id for partition in found.partitions)

    def _partitions(self) -> list[int]:
        """The partitions there are; another topic of the same name is refused, for positions mean nothing in it."""
        identity, partitions = self._describe()
        self.identity = self.identity or identity
        if identity != self.identity:
            raise Failure(f"topic {self.name} has become another log: {identity}, not {self.identity}: start again")
        self._looked_at = time.monotonic()
        return partitions

    def _bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Least and next offset of partitions."""
        name = self._topic.name

        def ask(partition: int) -> tuple[int, int]:
            found = self._control.get_watermark_offsets(TopicPartition(name, partition), timeout=self._answer_seconds)
            if found is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return found

        return {partition: self._ask(functools.partial(ask, partition)) for partition in partitions}

    def found_identity(self) -> str:
        """The id of the topic as it is now, 32 hex digits, empty when the brokers give none."""
        return self._describe()[0]

    def end_place(self) -> Frontier:
        """The high watermarks."""
        ends = self._bounds(self._partitions())
        return START_OF_PARTITIONS.advanced(Position(partition, high) for partition, (_, high) in ends.items())

    def lost(self) -> Frontier:
        """Covers what is before the least offset of each partition."""
        bounds = self._bounds(self._partitions())
        return START_OF_PARTITIONS.advanced(Position(partition, low) for partition, (low, _) in bounds.items())

    def may_have_lost(self, received_ms: int) -> bool:
        """Whether retention may have removed a record that was received at or after a time (ms): something was removed
        from a partition, and what is left there is all newer than the time."""
        bounds = self._bounds(self._partitions())
        cut = {partition: each for partition, each in bounds.items() if 0 < each[0] < each[1]}
        begins = self._offsets_since(max(received_ms, 0), cut) if cut else {}
        return any(begins[partition] <= low for partition, (low, _) in cut.items())

    def read(self, after: Frontier, sample_count_max: int) -> tuple[list[Record], Frontier]:
        """Some records after a place by receive time, and the place reached; no records at the log's end."""
        with self._reading:
            while True:
                reader = self._reader
                if reader is None or after != self._reached or self._has_changed():
                    reader = self._begin(after)
                try:
                    records = reader.take(sample_count_max)
                except _Moved:
                    # Retention may have passed us: beginning anew will say what is gone.
                    self._end_reading()
                    self._silence.go_on()
                    continue
                self._reached = self._reached.advanced(record.position for record in records)
                return records, self._reached

    def _has_changed(self) -> bool:
        """Whether the topic has more partitions now, looked at now and then; raises Failure when another has its name.
        Waits for the brokers: the log's end is no end while none answers."""
        return time.monotonic() - self._looked_at > _LOOK_SECONDS and len(self._partitions()) != len(
            self._reached.places
        )

    def _end_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _begin(self, after: Frontier) -> _Reader:
        """Read on after a place. Raises LogGap when records after it are gone."""
        self._end_reading()
        bounds = self._bounds(self._partitions())
        place = resume_after(after, bounds, self.name)
        if not self._waiting.follow:
            # A partition that came after the first look is not read in this run.
            self._ends = self._ends or {partition: high for partition, (_, high) in bounds.items()}
            bounds = {partition: bounds[partition] for partition in self._ends}
        offsets = {partition: place.place_of(Position(partition, 0)).row for partition in bounds}
        merge = Merge(bounds, self._ends)
        for partition, offset in offsets.items():
            if self._ends is not None and offset >= self._ends[partition]:
                merge.end(partition)
        self._reached = place
        self._reader = _Reader(self._topic, merge, silence=self._new_silence(), offsets=offsets)
        return self._reader

    def read_between(self, times_ms: range, upto: Frontier, *, sample_count_max: int) -> Iterator[list[Record]]:
        """Records up to a place that may hold samples with times in ``times_ms``, some at a time.

        A sample is at most ``FUTURE_MS_MAX`` newer than the receive time of its record, so what was received before
        is passed over unread; then by the times in the header.
        """
        since_ms = max(times_ms.start - FUTURE_MS_MAX, 0)
        offsets = self._offsets_since(since_ms, self._bounds(place.segment for place in upto.places))
        ends = {place.segment: place.row for place in upto.places if offsets[place.segment] < place.row}
        if not ends:
            return
        begun = {partition: offsets[partition] for partition in ends}
        silence = self._new_silence()
        reader = _Reader(self._topic, Merge(ends, ends), silence=silence, offsets=begun)
        try:
            while records := reader.take(sample_count_max):
                yield [
                    record
                    for record in records
                    if record.timestamp_max_ms >= times_ms.start and record.timestamp_min_ms < times_ms.stop
                ]
        except _Moved as moved:
            raise Failure(f"{self.name} lost records to retention while an hour was made again") from moved
        finally:
            reader.close()

    def _offsets_since(self, received_ms: int, bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        """The first offset in each partition that was received at or after a time; its end when there is none."""
        asked = [TopicPartition(self._topic.name, partition, received_ms) for partition in bounds]
        found = self._ask(lambda: self._control.offsets_for_times(asked, timeout=self._answer_seconds))
        offsets = {}
        for each in found:
            low, high = bounds[each.partition]
            offsets[each.partition] = max(each.offset, low) if each.offset >= 0 else high
        return offsets

    def records_after(self, place: Frontier) -> int:
        """Records that a reader at a place has not read; of those that this run reads, where it has an end."""
        ends = self._ends or {place.segment: place.row for place in self.end_place().places}
        return sum(max(end - place.place_of(Position(partition, 0)).row, 0) for partition, end in ends.items())

    def lag_ms(self, place: Frontier) -> int:
        """Receive time of the last record less that of the last one read where more follow, ms; 0 without any."""
        bounds = self._bounds(self._partitions())
        rows = {partition: place.place_of(Position(partition, 0)).row for partition in bounds}
        unread = {
            partition: max(rows[partition] - 1, low)
            for partition, (low, high) in bounds.items()
            if rows[partition] < high
        }
        last = {partition: bounds[partition][1] - 1 for partition in unread}
        if not unread:
            return 0
        return max(max(self._received_ms(last)) - min(self._received_ms(unread)), 0)

    def _received_ms(self, offsets: Mapping[int, int]) -> list[int]:
        """Receive time of one record of each partition, ms."""
        ends = {partition: offset + 1 for partition, offset in offsets.items()}
        silence = self._new_silence()
        reader = _Reader(self._topic, Merge(ends, ends), silence=silence, offsets=offsets)
        try:
            return [record.received_ms for record in reader.take(1 << 62)] or [0]
        finally:
            reader.close()

    def note_position(self, place: Frontier) -> None:
        """Commit our offsets for a group of our name, for lag alone; where that is not allowed it goes without."""
        offsets = [TopicPartition(self._topic.name, each.segment, each.row) for each in place.places]
        if offsets:
            with suppress(KafkaException):
                self._control.commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Let go of the brokers, unless a thread still waits for their answer: then the end of the process does."""
        if self._reading.acquire(timeout=_POLL_SECONDS):
            self._end_reading()
            self._control.close()
