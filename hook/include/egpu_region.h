/* Made by hook/generate_region.py from hook/region.def; do not edit. */
#ifndef EGPU_REGION_H
#define EGPU_REGION_H
#include <stddef.h>
#include <stdint.h>

#define EGPU_REGION_VERSION 1 /* raised when a field changes its place or its meaning; other versions are refused */
#define EGPU_LIMITS_MAGIC 0x31544d494c555047ull /* the first word of `limits` */
#define EGPU_USAGE_MAGIC 0x3147535547555047ull /* the first word of `usage`, written last by whoever prepares the file */
#define EGPU_CARD_MAGIC 0x3144524143555047ull /* the first word of `cards/<uuid>/card` */
#define EGPU_CARD_COUNT_MAX 16 /* cards of one container; the largest servers hold 16 */
#define EGPU_SLOT_COUNT_MAX 1024 /* processes of one container that use a card at the same time */
#define EGPU_MEMBER_COUNT_MAX 64 /* containers that share one card */
#define EGPU_UUID_BYTES_MAX 64 /* "GPU-" or "MIG-" and 36 characters, ended by a zero */
#define EGPU_CONTAINER_BYTES_MAX 128 /* a container id, ended by a zero */
#define EGPU_CORE_QUOTA_WHOLE 10000 /* core quotas are parts of 10,000; the whole card is no limit */
#define EGPU_BUCKET_WORD_COUNT 64 /* room for struct throttle_bucket */
#define EGPU_MUTEX_BYTES 64 /* room for pthread_mutex_t, which has 40 bytes on x86-64 and 48 on aarch64 */
#define EGPU_MEMORY_CLASS_COUNT_MAX 16 /* kinds of charged memory, below */
#define EGPU_INDEX_NONE 0xffffffff /* a card that no other container shares has no page */
#define EGPU_POLICY_HARD 0 /* never above the quota */
#define EGPU_POLICY_SOFT 1 /* above the quota while nobody entitled wants the card */
#define EGPU_PRIORITY_HIGH 0 /* goes before low */
#define EGPU_PRIORITY_LOW 1 /* waits while high has work */
#define EGPU_MEMORY_DEVICE 0 /* cuMemAlloc and cuMemAllocPitch */
#define EGPU_MEMORY_MANAGED 1 /* cuMemAllocManaged by the application */
#define EGPU_MEMORY_POOL 2 /* cuMemAllocAsync and cuMemAllocFromPoolAsync */
#define EGPU_MEMORY_VIRTUAL 3 /* cuMemCreate */
#define EGPU_MEMORY_ARRAY 4 /* arrays and mipmapped arrays */
#define EGPU_MEMORY_GRAPH 5 /* allocation nodes of graphs */
#define EGPU_MEMORY_CONTEXT 6 /* what a context itself takes */
#define EGPU_MEMORY_MODULE 7 /* code and global variables */
#define EGPU_MEMORY_OVERSUBSCRIBED 8 /* cuMemAlloc turned managed: virtual size */
#define EGPU_MEMORY_UNACCOUNTED 9 /* what the driver says beyond what was counted */
#define EGPU_MEMORY_CLASS_COUNT 10 /* classes in use */

/* what a container may use of one card */
struct egpu_card_limits {
    char uuid[64]; /* of the card, as NVML and cuDeviceGetUuid name it */
    uint64_t memory_quota_bytes; /* of all processes together */
    uint64_t resident_bytes_min; /* what stays on the card under oversubscription */
    uint32_t core_quota; /* parts of 10,000 of the card's time */
    uint32_t core_policy; /* EGPU_POLICY_HARD or EGPU_POLICY_SOFT */
    uint32_t priority; /* EGPU_PRIORITY_HIGH or EGPU_PRIORITY_LOW */
    uint32_t oversubscription; /* 1: the memory quota is a virtual size */
    uint32_t card_index; /* this container's page in cards/<uuid>/, or EGPU_INDEX_NONE */
    uint32_t padding_;
    uint64_t context_bytes_estimate; /* charged for a context until it is measured; 0: the hook's own estimate */
    uint64_t host_quota_bytes; /* of host memory: page-locked, and what can be moved out there; 0: no limit */
    char rest_[72];
};
_Static_assert(sizeof(struct egpu_card_limits) == 192, "egpu_card_limits");
_Static_assert(offsetof(struct egpu_card_limits, uuid) == 0, "egpu_card_limits.uuid");
_Static_assert(offsetof(struct egpu_card_limits, memory_quota_bytes) == 64, "egpu_card_limits.memory_quota_bytes");
_Static_assert(offsetof(struct egpu_card_limits, resident_bytes_min) == 72, "egpu_card_limits.resident_bytes_min");
_Static_assert(offsetof(struct egpu_card_limits, core_quota) == 80, "egpu_card_limits.core_quota");
_Static_assert(offsetof(struct egpu_card_limits, core_policy) == 84, "egpu_card_limits.core_policy");
_Static_assert(offsetof(struct egpu_card_limits, priority) == 88, "egpu_card_limits.priority");
_Static_assert(offsetof(struct egpu_card_limits, oversubscription) == 92, "egpu_card_limits.oversubscription");
_Static_assert(offsetof(struct egpu_card_limits, card_index) == 96, "egpu_card_limits.card_index");
_Static_assert(offsetof(struct egpu_card_limits, padding_) == 100, "egpu_card_limits.padding_");
_Static_assert(offsetof(struct egpu_card_limits, context_bytes_estimate) == 104, "egpu_card_limits.context_bytes_estimate");
_Static_assert(offsetof(struct egpu_card_limits, host_quota_bytes) == 112, "egpu_card_limits.host_quota_bytes");

/* the file `limits` */
struct egpu_limits {
    uint64_t magic; /* EGPU_LIMITS_MAGIC */
    uint32_t version; /* EGPU_REGION_VERSION */
    uint32_t card_count; /* rows of cards in use */
    uint64_t generation; /* odd while the agent writes; grows by two at each change */
    char container[128]; /* the container's id */
    struct egpu_card_limits cards[16]; /* by the order the container sees them */
    char rest_[872];
};
_Static_assert(sizeof(struct egpu_limits) == 4096, "egpu_limits");
_Static_assert(offsetof(struct egpu_limits, magic) == 0, "egpu_limits.magic");
_Static_assert(offsetof(struct egpu_limits, version) == 8, "egpu_limits.version");
_Static_assert(offsetof(struct egpu_limits, card_count) == 12, "egpu_limits.card_count");
_Static_assert(offsetof(struct egpu_limits, generation) == 16, "egpu_limits.generation");
_Static_assert(offsetof(struct egpu_limits, container) == 24, "egpu_limits.container");
_Static_assert(offsetof(struct egpu_limits, cards) == 152, "egpu_limits.cards");

/* what one process uses of one card; written by that process under the lock (bytes) or alone (times) */
struct egpu_slot_card {
    uint64_t charged_bytes[16]; /* by class; their sum is the charge */
    uint64_t host_bytes; /* page-locked */
    uint64_t resident_bytes; /* of oversubscribed memory on the card */
    uint64_t seen_bytes; /* what NVML says of this process; written by the agent, or by the process where it finds itself */
    uint64_t seen_ns; /* when that was (CLOCK_MONOTONIC); 0: never */
    uint64_t busy_ns; /* measured time on the card */
    uint64_t throttled_ns; /* waited for tokens */
    uint64_t preempted_ns; /* waited for a higher priority or another one's turn */
    uint64_t swapped_in_bytes; /* moved to the card for a turn; what the driver moves by itself, it does not tell */
    uint64_t swapped_out_bytes; /* moved to the host after one */
    uint64_t out_of_memory_count; /* allocations refused */
    uint64_t last_submit_ns; /* CLOCK_REALTIME of the last submission; 0: none yet */
    uint64_t launch_count; /* gated submissions */
    uint64_t unlimited_count; /* submissions that passed because waiting had come to its bound */
    uint64_t seen_operation_count; /* the slot's operation_count when seen_bytes was read; who writes seen_* writes seen_ns last */
    uint64_t seen_applied_ns; /* the seen_ns that the charge has followed */
    uint64_t unmeasured_since_ns; /* CLOCK_MONOTONIC; since then work is on the card that was never measured before; 0: none */
    uint64_t unmeasured_others_ns; /* what the container's other processes had been charged by then */
    char rest_[120];
};
_Static_assert(sizeof(struct egpu_slot_card) == 384, "egpu_slot_card");
_Static_assert(offsetof(struct egpu_slot_card, charged_bytes) == 0, "egpu_slot_card.charged_bytes");
_Static_assert(offsetof(struct egpu_slot_card, host_bytes) == 128, "egpu_slot_card.host_bytes");
_Static_assert(offsetof(struct egpu_slot_card, resident_bytes) == 136, "egpu_slot_card.resident_bytes");
_Static_assert(offsetof(struct egpu_slot_card, seen_bytes) == 144, "egpu_slot_card.seen_bytes");
_Static_assert(offsetof(struct egpu_slot_card, seen_ns) == 152, "egpu_slot_card.seen_ns");
_Static_assert(offsetof(struct egpu_slot_card, busy_ns) == 160, "egpu_slot_card.busy_ns");
_Static_assert(offsetof(struct egpu_slot_card, throttled_ns) == 168, "egpu_slot_card.throttled_ns");
_Static_assert(offsetof(struct egpu_slot_card, preempted_ns) == 176, "egpu_slot_card.preempted_ns");
_Static_assert(offsetof(struct egpu_slot_card, swapped_in_bytes) == 184, "egpu_slot_card.swapped_in_bytes");
_Static_assert(offsetof(struct egpu_slot_card, swapped_out_bytes) == 192, "egpu_slot_card.swapped_out_bytes");
_Static_assert(offsetof(struct egpu_slot_card, out_of_memory_count) == 200, "egpu_slot_card.out_of_memory_count");
_Static_assert(offsetof(struct egpu_slot_card, last_submit_ns) == 208, "egpu_slot_card.last_submit_ns");
_Static_assert(offsetof(struct egpu_slot_card, launch_count) == 216, "egpu_slot_card.launch_count");
_Static_assert(offsetof(struct egpu_slot_card, unlimited_count) == 224, "egpu_slot_card.unlimited_count");
_Static_assert(offsetof(struct egpu_slot_card, seen_operation_count) == 232, "egpu_slot_card.seen_operation_count");
_Static_assert(offsetof(struct egpu_slot_card, seen_applied_ns) == 240, "egpu_slot_card.seen_applied_ns");
_Static_assert(offsetof(struct egpu_slot_card, unmeasured_since_ns) == 248, "egpu_slot_card.unmeasured_since_ns");
_Static_assert(offsetof(struct egpu_slot_card, unmeasured_others_ns) == 256, "egpu_slot_card.unmeasured_others_ns");

/* one process */
struct egpu_slot {
    uint64_t pid; /* in the process's own PID namespace; 0: free */
    uint64_t start_time; /* field 22 of /proc/<pid>/stat: a PID alone comes back */
    uint64_t pid_namespace; /* inode of /proc/self/ns/pid: only processes of the same one can tell whether this one lives */
    uint64_t operation_count; /* of changes to the charges; tells a sampler that what it read belongs together */
    uint64_t unknown_call_count; /* driver functions asked for that the hook does not know */
    uint64_t region_error_count; /* times the region could not be used */
    uint64_t reserved_[10]; /* zero */
    struct egpu_slot_card cards[16]; /* by row of limits */
};
_Static_assert(sizeof(struct egpu_slot) == 6272, "egpu_slot");
_Static_assert(offsetof(struct egpu_slot, pid) == 0, "egpu_slot.pid");
_Static_assert(offsetof(struct egpu_slot, start_time) == 8, "egpu_slot.start_time");
_Static_assert(offsetof(struct egpu_slot, pid_namespace) == 16, "egpu_slot.pid_namespace");
_Static_assert(offsetof(struct egpu_slot, operation_count) == 24, "egpu_slot.operation_count");
_Static_assert(offsetof(struct egpu_slot, unknown_call_count) == 32, "egpu_slot.unknown_call_count");
_Static_assert(offsetof(struct egpu_slot, region_error_count) == 40, "egpu_slot.region_error_count");
_Static_assert(offsetof(struct egpu_slot, reserved_) == 48, "egpu_slot.reserved_");
_Static_assert(offsetof(struct egpu_slot, cards) == 128, "egpu_slot.cards");

/* all processes of the container on one card */
struct egpu_card_usage {
    uint64_t charged_bytes; /* of all slots; changed under the lock */
    uint64_t charged_bytes_max; /* the highest it ever was */
    uint64_t departed_busy_ns; /* of processes that are gone; the container's figure is this and the sum over the slots */
    uint64_t departed_throttled_ns; /* likewise */
    uint64_t departed_preempted_ns; /* likewise */
    uint64_t departed_swapped_in_bytes; /* likewise */
    uint64_t departed_swapped_out_bytes; /* likewise */
    uint64_t departed_out_of_memory_count; /* likewise */
    uint64_t departed_last_submit_ns; /* likewise, the latest */
    uint64_t departed_launch_count; /* likewise */
    uint64_t departed_unlimited_count; /* likewise */
    uint64_t seen_all_ns; /* CLOCK_MONOTONIC of the last look at what the driver has for all processes; 0: one is due */
    uint64_t reserved_[4]; /* zero */
    uint64_t bucket[64]; /* struct throttle_bucket */
    char rest_[384];
};
_Static_assert(sizeof(struct egpu_card_usage) == 1024, "egpu_card_usage");
_Static_assert(offsetof(struct egpu_card_usage, charged_bytes) == 0, "egpu_card_usage.charged_bytes");
_Static_assert(offsetof(struct egpu_card_usage, charged_bytes_max) == 8, "egpu_card_usage.charged_bytes_max");
_Static_assert(offsetof(struct egpu_card_usage, departed_busy_ns) == 16, "egpu_card_usage.departed_busy_ns");
_Static_assert(offsetof(struct egpu_card_usage, departed_throttled_ns) == 24, "egpu_card_usage.departed_throttled_ns");
_Static_assert(offsetof(struct egpu_card_usage, departed_preempted_ns) == 32, "egpu_card_usage.departed_preempted_ns");
_Static_assert(offsetof(struct egpu_card_usage, departed_swapped_in_bytes) == 40, "egpu_card_usage.departed_swapped_in_bytes");
_Static_assert(offsetof(struct egpu_card_usage, departed_swapped_out_bytes) == 48, "egpu_card_usage.departed_swapped_out_bytes");
_Static_assert(offsetof(struct egpu_card_usage, departed_out_of_memory_count) == 56, "egpu_card_usage.departed_out_of_memory_count");
_Static_assert(offsetof(struct egpu_card_usage, departed_last_submit_ns) == 64, "egpu_card_usage.departed_last_submit_ns");
_Static_assert(offsetof(struct egpu_card_usage, departed_launch_count) == 72, "egpu_card_usage.departed_launch_count");
_Static_assert(offsetof(struct egpu_card_usage, departed_unlimited_count) == 80, "egpu_card_usage.departed_unlimited_count");
_Static_assert(offsetof(struct egpu_card_usage, seen_all_ns) == 88, "egpu_card_usage.seen_all_ns");
_Static_assert(offsetof(struct egpu_card_usage, reserved_) == 96, "egpu_card_usage.reserved_");
_Static_assert(offsetof(struct egpu_card_usage, bucket) == 128, "egpu_card_usage.bucket");

/* the first page of `usage` */
struct egpu_usage_head {
    uint64_t magic; /* EGPU_USAGE_MAGIC */
    uint32_t version; /* EGPU_REGION_VERSION */
    uint32_t slot_count_used; /* slots from here on were never taken, so nobody needs to look at them */
    uint64_t recovery_count; /* how often a process died holding the lock */
    uint64_t reaped_count; /* slots of dead processes given back */
    uint64_t reap_ns; /* CLOCK_MONOTONIC of the last look for dead processes */
    uint64_t region_error_count; /* times the region could not be used, of processes without a slot and of those that are gone */
    uint64_t passed_launch_count; /* launches that nobody limited, because their process could not use the limits */
    uint64_t reserved_[9]; /* zero */
    uint64_t mutex[8]; /* pthread_mutex_t, process-shared and robust */
    char rest_[3904];
};
_Static_assert(sizeof(struct egpu_usage_head) == 4096, "egpu_usage_head");
_Static_assert(offsetof(struct egpu_usage_head, magic) == 0, "egpu_usage_head.magic");
_Static_assert(offsetof(struct egpu_usage_head, version) == 8, "egpu_usage_head.version");
_Static_assert(offsetof(struct egpu_usage_head, slot_count_used) == 12, "egpu_usage_head.slot_count_used");
_Static_assert(offsetof(struct egpu_usage_head, recovery_count) == 16, "egpu_usage_head.recovery_count");
_Static_assert(offsetof(struct egpu_usage_head, reaped_count) == 24, "egpu_usage_head.reaped_count");
_Static_assert(offsetof(struct egpu_usage_head, reap_ns) == 32, "egpu_usage_head.reap_ns");
_Static_assert(offsetof(struct egpu_usage_head, region_error_count) == 40, "egpu_usage_head.region_error_count");
_Static_assert(offsetof(struct egpu_usage_head, passed_launch_count) == 48, "egpu_usage_head.passed_launch_count");
_Static_assert(offsetof(struct egpu_usage_head, reserved_) == 56, "egpu_usage_head.reserved_");
_Static_assert(offsetof(struct egpu_usage_head, mutex) == 128, "egpu_usage_head.mutex");

/* the file `usage`; sparse */
struct egpu_usage {
    struct egpu_usage_head head; /* prepared by the first process */
    struct egpu_card_usage cards[16]; /* by row of limits */
    struct egpu_slot slots[1024]; /* a slot never moves: its owner keeps a pointer */
};
_Static_assert(sizeof(struct egpu_usage) == 6443008, "egpu_usage");
_Static_assert(offsetof(struct egpu_usage, head) == 0, "egpu_usage.head");
_Static_assert(offsetof(struct egpu_usage, cards) == 4096, "egpu_usage.cards");
_Static_assert(offsetof(struct egpu_usage, slots) == 20480, "egpu_usage.slots");

/* one container of a card, as the agent says */
struct egpu_member {
    uint32_t present; /* 1: this index is taken */
    uint32_t core_quota; /* parts of 10,000 */
    uint32_t core_policy; /* EGPU_POLICY_HARD or EGPU_POLICY_SOFT */
    uint32_t priority; /* EGPU_PRIORITY_HIGH or EGPU_PRIORITY_LOW */
    uint64_t memory_quota_bytes; /* virtual size when oversubscribed */
    uint64_t resident_bytes_min; /* what stays on the card under oversubscription */
    uint32_t oversubscription; /* 1: its memory can be moved */
    uint32_t padding_; /* zero */
    char rest_[24];
};
_Static_assert(sizeof(struct egpu_member) == 64, "egpu_member");
_Static_assert(offsetof(struct egpu_member, present) == 0, "egpu_member.present");
_Static_assert(offsetof(struct egpu_member, core_quota) == 4, "egpu_member.core_quota");
_Static_assert(offsetof(struct egpu_member, core_policy) == 8, "egpu_member.core_policy");
_Static_assert(offsetof(struct egpu_member, priority) == 12, "egpu_member.priority");
_Static_assert(offsetof(struct egpu_member, memory_quota_bytes) == 16, "egpu_member.memory_quota_bytes");
_Static_assert(offsetof(struct egpu_member, resident_bytes_min) == 24, "egpu_member.resident_bytes_min");
_Static_assert(offsetof(struct egpu_member, oversubscription) == 32, "egpu_member.oversubscription");
_Static_assert(offsetof(struct egpu_member, padding_) == 36, "egpu_member.padding_");

/* the file `card`: written by the agent, read-only to all */
struct egpu_card {
    uint64_t magic; /* EGPU_CARD_MAGIC */
    uint32_t version; /* EGPU_REGION_VERSION */
    uint32_t member_count; /* indexes from here on are not taken */
    uint64_t generation; /* odd while the agent writes */
    char uuid[64]; /* of the card */
    uint64_t memory_bytes; /* of the card that containers may use together */
    uint64_t page_in_bytes_per_second; /* what the agent expects of the link; 0: not known */
    uint64_t reserved_[3]; /* zero */
    struct egpu_member members[64]; /* by index */
    char rest_[3968];
};
_Static_assert(sizeof(struct egpu_card) == 8192, "egpu_card");
_Static_assert(offsetof(struct egpu_card, magic) == 0, "egpu_card.magic");
_Static_assert(offsetof(struct egpu_card, version) == 8, "egpu_card.version");
_Static_assert(offsetof(struct egpu_card, member_count) == 12, "egpu_card.member_count");
_Static_assert(offsetof(struct egpu_card, generation) == 16, "egpu_card.generation");
_Static_assert(offsetof(struct egpu_card, uuid) == 24, "egpu_card.uuid");
_Static_assert(offsetof(struct egpu_card, memory_bytes) == 88, "egpu_card.memory_bytes");
_Static_assert(offsetof(struct egpu_card, page_in_bytes_per_second) == 96, "egpu_card.page_in_bytes_per_second");
_Static_assert(offsetof(struct egpu_card, reserved_) == 104, "egpu_card.reserved_");
_Static_assert(offsetof(struct egpu_card, members) == 128, "egpu_card.members");

/* <index>.page: what one container tells the others of its card; written by it alone */
struct egpu_page {
    uint64_t heartbeat_ns; /* when the container last touched this page */
    uint64_t wanting_since_ns; /* first submission that waits; 0: nobody waits */
    uint64_t in_flight_since_ns; /* start of the work on the card now; 0: none */
    uint64_t in_flight_estimate_ns; /* of the work on the card now, by learned cost */
    uint64_t busy_ns; /* measured time on the card, all together */
    int64_t tokens_ns; /* left in the bucket */
    uint64_t hold_until_ns; /* a high priority keeps low ones waiting until then */
    uint64_t submitted_estimate_ns; /* all work ever submitted, by learned cost */
    uint64_t wanting_until_ns; /* work of this container waits to be submitted, as of now; expires by itself */
    uint64_t busy_until_ns; /* work of this container is on the card, as far as it is known; expires by itself */
    uint64_t tokens_at_ns; /* when tokens_ns was written */
    uint64_t probe_until_ns; /* this container measures a kernel alone; the others hold theirs until then */
    uint64_t running_since_ns; /* the oldest of its work became that then */
    uint64_t running_estimate_ns; /* of all its work since then that is not in busy_ns yet, by learned cost */
    uint64_t reserved_compute_[2]; /* zero */
    uint64_t resident_bytes; /* of oversubscribed memory on the card */
    uint64_t virtual_bytes; /* of oversubscribed memory */
    uint64_t wanted_bytes; /* what the work of the last seconds touches */
    uint64_t page_in_ns; /* spent on moving pages, all together */
    uint64_t page_in_bytes; /* moved to the card, all together */
    uint64_t turn_since_ns; /* start of this container's exclusive turn; 0: not its turn */
    uint64_t turn_until_ns; /* end of it */
    uint64_t turn_count; /* turns taken */
    uint64_t turn_wanted_since_ns; /* waits for a turn since; 0: does not wait */
    uint64_t pinned_bytes; /* of this card that cannot be moved: all classes but the oversubscribed one */
    uint64_t active_ns; /* last submission, or last look of one that waits for a turn */
    uint64_t active_since_ns; /* start of the present activity; changed when it was idle for longer than residency_hold_ns */
    uint64_t round_trip_ns; /* moving its set out and in once, smoothed: the length of turns follows it */
    uint64_t thrash_until_ns; /* its work was found waiting for pages, so turns are wanted until then */
    uint64_t reserved_residency_[2]; /* zero */
    char rest_[3840];
};
_Static_assert(sizeof(struct egpu_page) == 4096, "egpu_page");
_Static_assert(offsetof(struct egpu_page, heartbeat_ns) == 0, "egpu_page.heartbeat_ns");
_Static_assert(offsetof(struct egpu_page, wanting_since_ns) == 8, "egpu_page.wanting_since_ns");
_Static_assert(offsetof(struct egpu_page, in_flight_since_ns) == 16, "egpu_page.in_flight_since_ns");
_Static_assert(offsetof(struct egpu_page, in_flight_estimate_ns) == 24, "egpu_page.in_flight_estimate_ns");
_Static_assert(offsetof(struct egpu_page, busy_ns) == 32, "egpu_page.busy_ns");
_Static_assert(offsetof(struct egpu_page, tokens_ns) == 40, "egpu_page.tokens_ns");
_Static_assert(offsetof(struct egpu_page, hold_until_ns) == 48, "egpu_page.hold_until_ns");
_Static_assert(offsetof(struct egpu_page, submitted_estimate_ns) == 56, "egpu_page.submitted_estimate_ns");
_Static_assert(offsetof(struct egpu_page, wanting_until_ns) == 64, "egpu_page.wanting_until_ns");
_Static_assert(offsetof(struct egpu_page, busy_until_ns) == 72, "egpu_page.busy_until_ns");
_Static_assert(offsetof(struct egpu_page, tokens_at_ns) == 80, "egpu_page.tokens_at_ns");
_Static_assert(offsetof(struct egpu_page, probe_until_ns) == 88, "egpu_page.probe_until_ns");
_Static_assert(offsetof(struct egpu_page, running_since_ns) == 96, "egpu_page.running_since_ns");
_Static_assert(offsetof(struct egpu_page, running_estimate_ns) == 104, "egpu_page.running_estimate_ns");
_Static_assert(offsetof(struct egpu_page, reserved_compute_) == 112, "egpu_page.reserved_compute_");
_Static_assert(offsetof(struct egpu_page, resident_bytes) == 128, "egpu_page.resident_bytes");
_Static_assert(offsetof(struct egpu_page, virtual_bytes) == 136, "egpu_page.virtual_bytes");
_Static_assert(offsetof(struct egpu_page, wanted_bytes) == 144, "egpu_page.wanted_bytes");
_Static_assert(offsetof(struct egpu_page, page_in_ns) == 152, "egpu_page.page_in_ns");
_Static_assert(offsetof(struct egpu_page, page_in_bytes) == 160, "egpu_page.page_in_bytes");
_Static_assert(offsetof(struct egpu_page, turn_since_ns) == 168, "egpu_page.turn_since_ns");
_Static_assert(offsetof(struct egpu_page, turn_until_ns) == 176, "egpu_page.turn_until_ns");
_Static_assert(offsetof(struct egpu_page, turn_count) == 184, "egpu_page.turn_count");
_Static_assert(offsetof(struct egpu_page, turn_wanted_since_ns) == 192, "egpu_page.turn_wanted_since_ns");
_Static_assert(offsetof(struct egpu_page, pinned_bytes) == 200, "egpu_page.pinned_bytes");
_Static_assert(offsetof(struct egpu_page, active_ns) == 208, "egpu_page.active_ns");
_Static_assert(offsetof(struct egpu_page, active_since_ns) == 216, "egpu_page.active_since_ns");
_Static_assert(offsetof(struct egpu_page, round_trip_ns) == 224, "egpu_page.round_trip_ns");
_Static_assert(offsetof(struct egpu_page, thrash_until_ns) == 232, "egpu_page.thrash_until_ns");
_Static_assert(offsetof(struct egpu_page, reserved_residency_) == 240, "egpu_page.reserved_residency_");

#endif
