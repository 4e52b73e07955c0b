"""Where each word of the shared files is. Made by hook/generate_region.py; do not edit."""

from typing import Final, NamedTuple


class Place(NamedTuple):
    """A field: `type` is B, I, i, Q or q as in struct, or the name of a layout; length 0 is no array."""

    type: str
    offset: int
    size: int
    length: int


class Layout(NamedTuple):
    """A struct: its size in bytes and its fields by name."""

    size: int
    fields: dict[str, Place]


REGION_VERSION: Final = 1
LIMITS_MAGIC: Final = 0x31544D494C555047
USAGE_MAGIC: Final = 0x3147535547555047
CARD_MAGIC: Final = 0x3144524143555047
CARD_COUNT_MAX: Final = 16
SLOT_COUNT_MAX: Final = 1024
MEMBER_COUNT_MAX: Final = 64
UUID_BYTES_MAX: Final = 64
CONTAINER_BYTES_MAX: Final = 128
CORE_QUOTA_WHOLE: Final = 10000
BUCKET_WORD_COUNT: Final = 64
MUTEX_BYTES: Final = 64
MEMORY_CLASS_COUNT_MAX: Final = 16
INDEX_NONE: Final = 0xFFFFFFFF
POLICY_HARD: Final = 0
POLICY_SOFT: Final = 1
PRIORITY_HIGH: Final = 0
PRIORITY_LOW: Final = 1
MEMORY_DEVICE: Final = 0
MEMORY_MANAGED: Final = 1
MEMORY_POOL: Final = 2
MEMORY_VIRTUAL: Final = 3
MEMORY_ARRAY: Final = 4
MEMORY_GRAPH: Final = 5
MEMORY_CONTEXT: Final = 6
MEMORY_MODULE: Final = 7
MEMORY_OVERSUBSCRIBED: Final = 8
MEMORY_UNACCOUNTED: Final = 9
MEMORY_CLASS_COUNT: Final = 10

LAYOUTS: Final[dict[str, Layout]] = {
    "card_limits": Layout(
        192,
        {
            "uuid": Place("B", 0, 1, 64),
            "memory_quota_bytes": Place("Q", 64, 8, 0),
            "resident_bytes_min": Place("Q", 72, 8, 0),
            "core_quota": Place("I", 80, 4, 0),
            "core_policy": Place("I", 84, 4, 0),
            "priority": Place("I", 88, 4, 0),
            "oversubscription": Place("I", 92, 4, 0),
            "card_index": Place("I", 96, 4, 0),
            "padding_": Place("I", 100, 4, 0),
            "context_bytes_estimate": Place("Q", 104, 8, 0),
            "host_quota_bytes": Place("Q", 112, 8, 0),
        },
    ),
    "limits": Layout(
        4096,
        {
            "magic": Place("Q", 0, 8, 0),
            "version": Place("I", 8, 4, 0),
            "card_count": Place("I", 12, 4, 0),
            "generation": Place("Q", 16, 8, 0),
            "container": Place("B", 24, 1, 128),
            "cards": Place("card_limits", 152, 192, 16),
        },
    ),
    "slot_card": Layout(
        384,
        {
            "charged_bytes": Place("Q", 0, 8, 16),
            "host_bytes": Place("Q", 128, 8, 0),
            "resident_bytes": Place("Q", 136, 8, 0),
            "seen_bytes": Place("Q", 144, 8, 0),
            "seen_ns": Place("Q", 152, 8, 0),
            "busy_ns": Place("Q", 160, 8, 0),
            "throttled_ns": Place("Q", 168, 8, 0),
            "preempted_ns": Place("Q", 176, 8, 0),
            "swapped_in_bytes": Place("Q", 184, 8, 0),
            "swapped_out_bytes": Place("Q", 192, 8, 0),
            "out_of_memory_count": Place("Q", 200, 8, 0),
            "last_submit_ns": Place("Q", 208, 8, 0),
            "launch_count": Place("Q", 216, 8, 0),
            "unlimited_count": Place("Q", 224, 8, 0),
            "seen_operation_count": Place("Q", 232, 8, 0),
            "seen_applied_ns": Place("Q", 240, 8, 0),
            "unmeasured_since_ns": Place("Q", 248, 8, 0),
            "unmeasured_others_ns": Place("Q", 256, 8, 0),
        },
    ),
    "slot": Layout(
        6272,
        {
            "pid": Place("Q", 0, 8, 0),
            "start_time": Place("Q", 8, 8, 0),
            "pid_namespace": Place("Q", 16, 8, 0),
            "operation_count": Place("Q", 24, 8, 0),
            "unknown_call_count": Place("Q", 32, 8, 0),
            "region_error_count": Place("Q", 40, 8, 0),
            "reserved_": Place("Q", 48, 8, 10),
            "cards": Place("slot_card", 128, 384, 16),
        },
    ),
    "card_usage": Layout(
        1024,
        {
            "charged_bytes": Place("Q", 0, 8, 0),
            "charged_bytes_max": Place("Q", 8, 8, 0),
            "departed_busy_ns": Place("Q", 16, 8, 0),
            "departed_throttled_ns": Place("Q", 24, 8, 0),
            "departed_preempted_ns": Place("Q", 32, 8, 0),
            "departed_swapped_in_bytes": Place("Q", 40, 8, 0),
            "departed_swapped_out_bytes": Place("Q", 48, 8, 0),
            "departed_out_of_memory_count": Place("Q", 56, 8, 0),
            "departed_last_submit_ns": Place("Q", 64, 8, 0),
            "departed_launch_count": Place("Q", 72, 8, 0),
            "departed_unlimited_count": Place("Q", 80, 8, 0),
            "seen_all_ns": Place("Q", 88, 8, 0),
            "reserved_": Place("Q", 96, 8, 4),
            "bucket": Place("Q", 128, 8, 64),
        },
    ),
    "usage_head": Layout(
        4096,
        {
            "magic": Place("Q", 0, 8, 0),
            "version": Place("I", 8, 4, 0),
            "slot_count_used": Place("I", 12, 4, 0),
            "recovery_count": Place("Q", 16, 8, 0),
            "reaped_count": Place("Q", 24, 8, 0),
            "reap_ns": Place("Q", 32, 8, 0),
            "region_error_count": Place("Q", 40, 8, 0),
            "passed_launch_count": Place("Q", 48, 8, 0),
            "reserved_": Place("Q", 56, 8, 9),
            "mutex": Place("Q", 128, 8, 8),
        },
    ),
    "usage": Layout(
        6443008,
        {
            "head": Place("usage_head", 0, 4096, 0),
            "cards": Place("card_usage", 4096, 1024, 16),
            "slots": Place("slot", 20480, 6272, 1024),
        },
    ),
    "member": Layout(
        64,
        {
            "present": Place("I", 0, 4, 0),
            "core_quota": Place("I", 4, 4, 0),
            "core_policy": Place("I", 8, 4, 0),
            "priority": Place("I", 12, 4, 0),
            "memory_quota_bytes": Place("Q", 16, 8, 0),
            "resident_bytes_min": Place("Q", 24, 8, 0),
            "oversubscription": Place("I", 32, 4, 0),
            "padding_": Place("I", 36, 4, 0),
        },
    ),
    "card": Layout(
        8192,
        {
            "magic": Place("Q", 0, 8, 0),
            "version": Place("I", 8, 4, 0),
            "member_count": Place("I", 12, 4, 0),
            "generation": Place("Q", 16, 8, 0),
            "uuid": Place("B", 24, 1, 64),
            "memory_bytes": Place("Q", 88, 8, 0),
            "page_in_bytes_per_second": Place("Q", 96, 8, 0),
            "reserved_": Place("Q", 104, 8, 3),
            "members": Place("member", 128, 64, 64),
        },
    ),
    "page": Layout(
        4096,
        {
            "heartbeat_ns": Place("Q", 0, 8, 0),
            "wanting_since_ns": Place("Q", 8, 8, 0),
            "in_flight_since_ns": Place("Q", 16, 8, 0),
            "in_flight_estimate_ns": Place("Q", 24, 8, 0),
            "busy_ns": Place("Q", 32, 8, 0),
            "tokens_ns": Place("q", 40, 8, 0),
            "hold_until_ns": Place("Q", 48, 8, 0),
            "submitted_estimate_ns": Place("Q", 56, 8, 0),
            "wanting_until_ns": Place("Q", 64, 8, 0),
            "busy_until_ns": Place("Q", 72, 8, 0),
            "tokens_at_ns": Place("Q", 80, 8, 0),
            "probe_until_ns": Place("Q", 88, 8, 0),
            "running_since_ns": Place("Q", 96, 8, 0),
            "running_estimate_ns": Place("Q", 104, 8, 0),
            "reserved_compute_": Place("Q", 112, 8, 2),
            "resident_bytes": Place("Q", 128, 8, 0),
            "virtual_bytes": Place("Q", 136, 8, 0),
            "wanted_bytes": Place("Q", 144, 8, 0),
            "page_in_ns": Place("Q", 152, 8, 0),
            "page_in_bytes": Place("Q", 160, 8, 0),
            "turn_since_ns": Place("Q", 168, 8, 0),
            "turn_until_ns": Place("Q", 176, 8, 0),
            "turn_count": Place("Q", 184, 8, 0),
            "turn_wanted_since_ns": Place("Q", 192, 8, 0),
            "pinned_bytes": Place("Q", 200, 8, 0),
            "active_ns": Place("Q", 208, 8, 0),
            "active_since_ns": Place("Q", 216, 8, 0),
            "round_trip_ns": Place("Q", 224, 8, 0),
            "thrash_until_ns": Place("Q", 232, 8, 0),
            "reserved_residency_": Place("Q", 240, 8, 2),
        },
    ),
}
