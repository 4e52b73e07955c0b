/* The series cache and the reader of log records. */
#include "samples.h"

#include <stdlib.h>

/* ---- text ---- */

static int utf8_tail(const uint8_t *at, int count)
{
	for (int i = 0; i < count; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return 1;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
int is_utf8(struct bytes text)
{
	while (text.at < text.end) {
		uint8_t first = *text.at;
		if (first < 0x80) {
			text.at++;
			continue;
		}
		int tail = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
		if (first < 0xc2 || first > 0xf4 || text.end - text.at <= tail || !utf8_tail(text.at + 1, tail))
			return 0;
		uint8_t second = text.at[1];
		if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
		    (first == 0xf4 && second > 0x8f))
			return 0;
		text.at += tail + 1;
	}
	return 1;
}

/* ---- messages ---- */

/* A missing string is empty, the last of several counts (proto3). */
int read_label(struct bytes inside, struct label *label)
{
	struct field field;
	label->name.at = label->name.end = label->value.at = label->value.end = inside.at;
	while (inside.at < inside.end) {
		int error = read_field(&inside, &field);
		if (error)
			return error;
		if (is_message(&field, LABEL_NAME))
			label->name = field.inside;
		else if (is_message(&field, LABEL_VALUE))
			label->value = field.inside;
	}
	return 0;
}

/* The value stays 64 bits, never a double: arithmetic would quieten the stale marker, which is a signalling NaN. */
int read_sample(struct bytes inside, uint64_t *value, int64_t *timestamp)
{
	struct field field;
	*value = 0;
	*timestamp = 0;
	while (inside.at < inside.end) {
		int error = read_field(&inside, &field);
		if (error)
			return error;
		if (field.number == SAMPLE_VALUE && field.type == WIRE_I64)
			*value = field.scalar;
		else if (field.number == SAMPLE_TIMESTAMP && field.type == WIRE_VARINT)
			*timestamp = (int64_t)field.scalar;
	}
	return 0;
}

static int check_labels(struct bytes labels)
{
	struct field field;
	struct label label;
	while (labels.at < labels.end) {
		int error = read_field(&labels, &field);
		if (!error)
			error = read_label(field.inside, &label);
		if (error)
			return error;
		if (!is_utf8(label.name) || !is_utf8(label.value))
			return BODY_LABEL_TEXT;
	}
	return 0;
}

/* ---- the series cache ---- */

static uint64_t load64(const uint8_t *at)
{
	uint64_t value;
	memcpy(&value, at, 8);
	return value;
}

static uint64_t fold(uint64_t left, uint64_t right)
{
	unsigned __int128 product = (unsigned __int128)left * right;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Multiply and fold, 16 bytes a step. The seed is the process's own, so that a sender cannot aim at one slot. */
static uint64_t hash_bytes(struct bytes text, uint64_t seed)
{
	const uint64_t mixed = seed ^ 0x9e3779b97f4a7c15u;
	uint64_t hash = seed + length_of(text);
	uint8_t rest[16] = {0};
	for (; text.end - text.at >= 16; text.at += 16)
		hash = fold(load64(text.at) ^ mixed, load64(text.at + 8) ^ hash);
	memcpy(rest, text.at, length_of(text));
	hash = fold(load64(rest) ^ mixed, load64(rest + 8) ^ hash);
	return fold(hash ^ mixed, 0xd6e8feb86659fd93u);
}

static int is_series(const struct series_cache *cache, uint32_t id, struct bytes labels)
{
	const struct series *series = &cache->series[id];
	return series->length == length_of(labels) && !memcmp(cache->arena + series->offset, labels.at, series->length);
}

/* The series that followed the last one before, if this TimeSeries begins with its very bytes and has no more labels. */
static int is_predicted(const struct series_cache *cache, struct bytes time_series, uint32_t id)
{
	if (id >= cache->count)
		return 0;
	const struct series *series = &cache->series[id];
	const uint64_t length = length_of(time_series);
	return series->length <= length && !memcmp(cache->arena + series->offset, time_series.at, series->length) &&
	       (series->length == length || time_series.at[series->length] != 0x0a);
}

static uint32_t *slot_of(const struct series_cache *cache, const struct location *location)
{
	uint32_t slot = (uint32_t)location->hash & (cache->slot_count - 1);
	for (; cache->slots[slot]; slot = (slot + 1) & (cache->slot_count - 1)) {
		uint32_t id = cache->slots[slot] - 1;
		if (cache->series[id].hash == location->hash && is_series(cache, id, location->labels))
			break;
	}
	return &cache->slots[slot];
}

/* Move `time_series` past its leading labels (tag byte 0x0a) and say which series they are. */
int series_locate(struct series_cache *cache, struct bytes *time_series, struct location *location)
{
	const uint32_t predicted = cache->last < cache->count ? cache->series[cache->last].next : 0;
	location->labels.at = time_series->at;
	location->known = is_predicted(cache, *time_series, predicted);
	if (location->known) {
		location->id = cache->last = predicted;
		time_series->at += cache->series[predicted].length;
		location->labels.end = time_series->at;
		return 0;
	}
	while (time_series->at < time_series->end && *time_series->at == 0x0a) {
		struct bytes inside;
		time_series->at++;
		int error = read_length(time_series, &inside);
		if (error)
			return error;
	}
	location->labels.end = time_series->at;
	location->hash = hash_bytes(location->labels, cache->seed);
	uint32_t slot = *slot_of(cache, location);
	if (slot) {
		location->known = 1;
		location->id = slot - 1;
		cache->series[cache->last].next = location->id;
		cache->last = location->id;
	}
	return 0;
}

static int grow_slots(struct series_cache *cache)
{
	if (cache->slot_count > 2 * (uint64_t)cache->count + 2)
		return 0;
	uint32_t slot_count = cache->slot_count ? cache->slot_count * 2 : 1024;
	uint32_t *slots = calloc(slot_count, sizeof *slots);
	if (!slots)
		return NO_MEMORY;
	for (uint32_t id = 0; id < cache->count; id++) {
		uint32_t slot = (uint32_t)cache->series[id].hash & (slot_count - 1);
		while (slots[slot])
			slot = (slot + 1) & (slot_count - 1);
		slots[slot] = id + 1;
	}
	free(cache->slots);
	cache->slots = slots;
	cache->slot_count = slot_count;
	return 0;
}

static int grow_arrays(struct series_cache *cache, uint64_t length)
{
	if (cache->count == cache->size) {
		uint32_t size = cache->size ? cache->size * 2 : 1024;
		struct series *series = realloc(cache->series, size * sizeof *series);
		if (!series)
			return NO_MEMORY;
		cache->series = series;
		cache->size = size;
	}
	if (!cache->arena || cache->arena_used + length > cache->arena_size) {
		uint64_t size = cache->arena_size * 2 + length + 4096;
		uint8_t *arena = realloc(cache->arena, size);
		if (!arena)
			return NO_MEMORY;
		cache->arena = arena;
		cache->arena_size = size;
	}
	return 0;
}

/* Remember the labels of a location that `series_locate` did not know. */
int series_add(struct series_cache *cache, struct location *location)
{
	const uint64_t length = length_of(location->labels);
	if (cache->count == cache->count_max || cache->arena_used + length > cache->arena_max || length > UINT32_MAX)
		return CACHE_FULL;
	int error = grow_arrays(cache, length);
	if (!error)
		error = grow_slots(cache);
	if (error)
		return error;
	const uint32_t id = cache->count++;
	cache->series[id] =
	    (struct series){.hash = location->hash, .offset = cache->arena_used, .length = (uint32_t)length, .next = id + 1};
	memcpy(cache->arena + cache->arena_used, location->labels.at, length);
	cache->arena_used += length;
	if (id)
		cache->series[cache->last].next = id;
	cache->last = location->id = id;
	location->known = 1;
	uint32_t slot = (uint32_t)location->hash & (cache->slot_count - 1);
	while (cache->slots[slot])
		slot = (slot + 1) & (cache->slot_count - 1);
	cache->slots[slot] = id + 1;
	return 0;
}

void samples_cache_free(struct series_cache *cache)
{
	if (!cache)
		return;
	free(cache->series);
	free(cache->slots);
	free(cache->arena);
	free(cache);
}

/* An empty cache of at most `count_max` series and `arena_max` label bytes; NULL without memory. */
struct series_cache *samples_cache_new(uint32_t count_max, uint64_t arena_max, uint64_t seed)
{
	struct series_cache *cache = calloc(1, sizeof *cache);
	if (!cache)
		return NULL;
	cache->count_max = count_max < (1u << 29) ? count_max : 1u << 29;
	cache->arena_max = arena_max;
	cache->seed = seed;
	if (grow_arrays(cache, 0) || grow_slots(cache)) {
		samples_cache_free(cache);
		return NULL;
	}
	return cache;
}

void samples_cache_clear(struct series_cache *cache)
{
	cache->count = cache->last = 0;
	cache->generation++;
	cache->arena_used = 0;
	memset(cache->slots, 0, cache->slot_count * sizeof *cache->slots);
}

uint32_t samples_cache_count(const struct series_cache *cache) { return cache->count; }

/* Labels of a series as they came: four numbers a label (offsets of name and value from the start of the series' bytes,
 * each followed by its length). `bytes` and `length` give those bytes. Returns the number of labels; only the first
 * `label_max` are written. */
int64_t samples_cache_labels(const struct series_cache *cache, uint32_t id, uint32_t *parts, uint32_t label_max,
                             const uint8_t **bytes, uint32_t *length)
{
	if (id >= cache->count)
		return BODY_TRUNCATED;
	const uint8_t *start = cache->arena + cache->series[id].offset;
	struct bytes labels = {start, start + cache->series[id].length};
	struct field field;
	struct label label;
	uint32_t count = 0;
	for (; labels.at < labels.end; count++) {
		int error = read_field(&labels, &field);
		if (!error)
			error = read_label(field.inside, &label);
		if (error)
			return error;
		if (count < label_max) {
			uint32_t *part = parts + 4 * (size_t)count;
			part[0] = (uint32_t)(label.name.at - start);
			part[1] = (uint32_t)length_of(label.name);
			part[2] = (uint32_t)(label.value.at - start);
			part[3] = (uint32_t)length_of(label.value);
		}
	}
	*bytes = start;
	*length = cache->series[id].length;
	return count;
}

/* ---- the reader ---- */

/* Output of a decode: three columns of `capacity` rows that the caller owns, and what was skipped. */
struct samples_output {
	int32_t *series;
	int64_t *timestamp_ms;
	uint64_t *value;
	int64_t capacity;
	int64_t count;
	int64_t exemplar_count;
	int64_t histogram_count;
	int64_t metadata_count;
};

static int decode_series(struct series_cache *cache, struct bytes time_series, struct samples_output *output)
{
	struct location location;
	struct field field;
	int error = series_locate(cache, &time_series, &location);
	if (!error && !location.known) {
		error = check_labels(location.labels);
		if (!error)
			error = series_add(cache, &location);
	}
	while (!error && time_series.at < time_series.end) {
		error = read_field(&time_series, &field);
		if (error || field.type != WIRE_LEN)
			continue;
		if (field.number == SERIES_SAMPLE) {
			if (output->count == output->capacity)
				return OUTPUT_FULL;
			int64_t row = output->count++;
			output->series[row] = (int32_t)location.id;
			error = read_sample(field.inside, &output->value[row], &output->timestamp_ms[row]);
		} else if (field.number == SERIES_LABEL) {
			return BODY_LABELS_LATE;
		}
		output->exemplar_count += field.number == SERIES_EXEMPLAR;
		output->histogram_count += field.number == SERIES_HISTOGRAM;
	}
	return error;
}

/* Samples of all series of a WriteRequest, in order. Returns their number or one of the errors of samples.h. */
int64_t samples_decode(struct series_cache *cache, const uint8_t *body, uint64_t length, struct samples_output *output)
{
	struct bytes request = {body, body + length};
	struct field field;
	output->count = output->exemplar_count = output->histogram_count = output->metadata_count = 0;
	while (request.at < request.end) {
		int error = read_field(&request, &field);
		if (!error && is_message(&field, REQUEST_TIMESERIES))
			error = decode_series(cache, field.inside, output);
		if (error)
			return error;
		output->metadata_count += is_message(&field, REQUEST_METADATA);
	}
	return output->count;
}
