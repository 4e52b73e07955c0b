/* Remote Write 1.0 bodies: the wire, the cache of known series, the reader of log records and the checker of new bodies.
 *
 * Data first. A body is a WriteRequest (prompb/remote.proto); a TimeSeries begins with its labels, and the exact bytes
 * of those labels are the key of the series cache: a sender repeats them every scrape, so they are looked at once.
 * Nothing here keeps a pointer into a body after the call returns, and no call touches memory outside [at, end).
 */
#ifndef EGPU_SAMPLES_H
#define EGPU_SAMPLES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Why a body is refused as a whole, or what the caller has to do; the numbers are the contract with samples.py. */
enum {
	BODY_TRUNCATED = -1,   /* a length points past the end */
	BODY_VARINT = -2,      /* more than ten bytes or 64 bits */
	BODY_WIRE_TYPE = -3,   /* a group or an unknown wire type */
	BODY_TAG = -4,         /* field number 0 or above 2^29 - 1 */
	BODY_LABELS_LATE = -5, /* a label after a sample: not a record of our log */
	BODY_LABEL_TEXT = -6,  /* a label that is not UTF-8 */
	CACHE_FULL = -7,       /* empty the cache and call again */
	OUTPUT_FULL = -8,      /* enlarge the output and call again */
	NO_MEMORY = -9,
	SERIES_UNASSIGNED = -10, /* say the partitions of the new series and call again */
	SERIES_TOO_LARGE = -11,  /* one TimeSeries alone is larger than a record may be */
};

enum { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

/* Field numbers of prompb/remote.proto and prompb/types.proto. */
enum { REQUEST_TIMESERIES = 1, REQUEST_METADATA = 3 };
enum { SERIES_LABEL = 1, SERIES_SAMPLE = 2, SERIES_EXEMPLAR = 3, SERIES_HISTOGRAM = 4 };
enum { LABEL_NAME = 1, LABEL_VALUE = 2, SAMPLE_VALUE = 1, SAMPLE_TIMESTAMP = 2 };
enum { EXEMPLAR_TIMESTAMP = 3, HISTOGRAM_TIMESTAMP = 15 };

struct bytes {
	const uint8_t *at;
	const uint8_t *end;
};

struct field {
	uint32_t number;
	uint32_t type;
	uint64_t scalar;     /* of WIRE_VARINT, WIRE_I64, WIRE_I32 */
	struct bytes inside; /* of WIRE_LEN */
	const uint8_t *at;   /* where the tag begins */
};

struct label {
	struct bytes name;
	struct bytes value;
};

/* One known series. Its label bytes live in the arena; `next` is the series that followed it last time. */
struct series {
	uint64_t hash;
	uint64_t offset;
	uint32_t length;
	uint32_t next;
};

struct series_cache {
	struct series *series; /* by id */
	uint32_t *slots;       /* hash table, id + 1, 0 = free; size is a power of two, at most half full */
	uint8_t *arena;
	uint64_t arena_used, arena_size, arena_max;
	uint64_t seed;
	uint32_t count, size, count_max, slot_count;
	uint32_t last; /* the series located last, whose `next` is tried first */
	uint32_t generation; /* how often it was emptied: ids mean nothing beyond that */
};

/* Where a TimeSeries' labels are, and the series they name (`known` = 0: not in the cache). */
struct location {
	struct bytes labels;
	uint64_t hash;
	uint32_t id;
	int known;
};

static inline uint64_t length_of(struct bytes bytes) { return (uint64_t)(bytes.end - bytes.at); }

static inline int read_varint(struct bytes *body, uint64_t *value)
{
	uint64_t found = 0;
	for (unsigned shift = 0; shift < 70; shift += 7) {
		if (body->at == body->end)
			return BODY_TRUNCATED;
		uint8_t byte = *body->at++;
		if (shift == 63 && byte > 1)
			return BODY_VARINT;
		found |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*value = found;
			return 0;
		}
	}
	return BODY_VARINT;
}

static inline int read_length(struct bytes *body, struct bytes *inside)
{
	uint64_t length;
	int error = read_varint(body, &length);
	if (error)
		return error;
	if (length > length_of(*body))
		return BODY_TRUNCATED;
	inside->at = body->at;
	inside->end = body->at += length;
	return 0;
}

static inline int read_fixed(struct bytes *body, uint64_t *value, size_t size)
{
	if (length_of(*body) < size)
		return BODY_TRUNCATED;
	*value = 0;
	memcpy(value, body->at, size);
	body->at += size;
	return 0;
}

static inline int read_field(struct bytes *body, struct field *field)
{
	uint64_t tag;
	field->at = body->at;
	int error = read_varint(body, &tag);
	if (error)
		return error;
	if (tag >> 32 || tag >> 3 == 0)
		return BODY_TAG;
	field->number = (uint32_t)(tag >> 3);
	field->type = tag & 7;
	switch (field->type) {
	case WIRE_VARINT:
		return read_varint(body, &field->scalar);
	case WIRE_I64:
		return read_fixed(body, &field->scalar, 8);
	case WIRE_LEN:
		return read_length(body, &field->inside);
	case WIRE_I32:
		return read_fixed(body, &field->scalar, 4);
	default:
		return BODY_WIRE_TYPE;
	}
}

static inline int is_message(const struct field *field, uint32_t number)
{
	return field->number == number && field->type == WIRE_LEN;
}

/* samples.c */
int is_utf8(struct bytes text);
int read_label(struct bytes inside, struct label *label);
int read_sample(struct bytes inside, uint64_t *value, int64_t *timestamp);
int series_locate(struct series_cache *cache, struct bytes *time_series, struct location *location);
int series_add(struct series_cache *cache, struct location *location);
void samples_cache_clear(struct series_cache *cache);

#endif
