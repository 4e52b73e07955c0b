/* The checker of new bodies: is this the canonical form of valid samples, and if not, what is left of it that is?
 *
 * Canonical: labels first, sorted by name, each written as 0a LEN 0a LEN name 12 LEN value in the shortest way, so that
 * equal label sets are equal bytes. Label bytes that passed once are in the series cache and are not looked at again.
 */
#include "samples.h"

#include <stdlib.h>

/* Why a series or a sample is refused; the order is the contract with collector/validation.py. */
enum {
	ACCEPTED = -1,
	METRIC_NAME_MISSING,
	METRIC_NAME_INVALID,
	LABEL_NAME_INVALID,
	LABEL_NOT_UTF8,
	LABEL_EMPTY,
	LABEL_DUPLICATE,
	LABELS_TOO_MANY,
	LABEL_TOO_LONG,
	TIMESTAMP_IN_FUTURE,
	NO_SAMPLES,
	REASON_COUNT,
};

enum { LABELS_MAX = 1024 };

struct check_limits {
	int64_t timestamp_max_ms;
	uint32_t label_count_max; /* at most LABELS_MAX */
	uint32_t label_bytes_max; /* of a name or a value */
};

struct check_result {
	int64_t is_canonical; /* the body may be stored as it came */
	int64_t series_count;
	int64_t sample_count;
	int64_t exemplar_count;
	int64_t histogram_count;
	int64_t metadata_count;
	int64_t timestamp_min_ms; /* over samples, histograms and exemplars */
	int64_t timestamp_max_ms;
	int64_t refused[REASON_COUNT];
};

/* The labels of one TimeSeries, wherever they stand in it. */
struct label_set {
	uint32_t count;    /* all of them */
	uint64_t contents; /* samples, histograms and exemplars beside them */
	struct label labels[LABELS_MAX + 1];
};

static int is_letter(uint8_t byte) { return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'; }

/* [a-zA-Z_][a-zA-Z0-9_]*, with ':' too in a metric name (remote write 1.0). */
static int is_name(struct bytes name, int colon)
{
	if (name.at == name.end || (*name.at >= '0' && *name.at <= '9'))
		return 0;
	for (; name.at < name.end; name.at++)
		if (!is_letter(*name.at) && *name.at != '_' && !(*name.at >= '0' && *name.at <= '9') && !(colon && *name.at == ':'))
			return 0;
	return 1;
}

static int is_metric_name(struct bytes name) { return length_of(name) == 8 && !memcmp(name.at, "__name__", 8); }

static int compare_bytes(struct bytes left, struct bytes right)
{
	uint64_t shorter = length_of(left) < length_of(right) ? length_of(left) : length_of(right);
	int order = shorter ? memcmp(left.at, right.at, shorter) : 0;
	return order ? order : (length_of(left) > length_of(right)) - (length_of(left) < length_of(right));
}

static int compare_labels(const void *left, const void *right)
{
	return compare_bytes(((const struct label *)left)->name, ((const struct label *)right)->name);
}

static uint64_t varint_size(uint64_t value)
{
	uint64_t size = 1;
	for (; value > 0x7f; value >>= 7)
		size++;
	return size;
}

static uint8_t *write_varint(uint8_t *at, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	return at;
}

static uint8_t *write_bytes(uint8_t *at, uint8_t tag, struct bytes inside)
{
	*at++ = tag;
	at = write_varint(at, length_of(inside));
	memcpy(at, inside.at, length_of(inside));
	return at + length_of(inside);
}

static uint64_t field_size(uint64_t length) { return 1 + varint_size(length) + length; }

static uint64_t label_size(const struct label *label)
{
	return field_size(length_of(label->name)) + field_size(length_of(label->value));
}

static int reason_of_label(const struct label *label, const struct check_limits *limits)
{
	if (label->name.at == label->name.end || label->value.at == label->value.end)
		return is_metric_name(label->name) ? METRIC_NAME_MISSING : LABEL_EMPTY;
	if (length_of(label->name) > limits->label_bytes_max || length_of(label->value) > limits->label_bytes_max)
		return LABEL_TOO_LONG;
	if (!is_name(label->name, 0))
		return LABEL_NAME_INVALID;
	if (is_metric_name(label->name) && !is_name(label->value, 1))
		return METRIC_NAME_INVALID;
	return is_utf8(label->value) ? ACCEPTED : LABEL_NOT_UTF8;
}

/* Sorts the labels and says why they are refused, if they are. */
static int reason_of_labels(struct label_set *set, const struct check_limits *limits)
{
	int named = 0;
	if (set->count > limits->label_count_max || set->count > LABELS_MAX)
		return LABELS_TOO_MANY;
	for (uint32_t i = 0; i < set->count; i++) {
		int reason = reason_of_label(&set->labels[i], limits);
		if (reason != ACCEPTED)
			return reason;
		named |= is_metric_name(set->labels[i].name);
	}
	qsort(set->labels, set->count, sizeof *set->labels, compare_labels);
	for (uint32_t i = 1; i < set->count; i++)
		if (!compare_bytes(set->labels[i - 1].name, set->labels[i].name))
			return LABEL_DUPLICATE;
	return named ? ACCEPTED : METRIC_NAME_MISSING;
}

static int collect_labels(struct bytes time_series, struct label_set *set)
{
	struct field field;
	set->count = 0;
	set->contents = 0;
	while (time_series.at < time_series.end) {
		int error = read_field(&time_series, &field);
		if (!error && is_message(&field, SERIES_LABEL)) {
			/* One slot more than the limit takes all the surplus. */
			uint32_t slot = set->count < LABELS_MAX ? set->count : LABELS_MAX;
			error = read_label(field.inside, &set->labels[slot]);
			set->count++;
		}
		if (error)
			return error;
		set->contents += is_message(&field, SERIES_SAMPLE) || is_message(&field, SERIES_HISTOGRAM) ||
		                 is_message(&field, SERIES_EXEMPLAR);
	}
	return 0;
}

/* Label bytes that are valid and canonical as they stand. The labels are still in the order they came. */
static int are_canonical(const struct label_set *set, struct bytes bytes)
{
	uint64_t size = 0;
	for (uint32_t i = 0; i < set->count; i++) {
		if (set->labels[i].name.at > set->labels[i].value.at)
			return 0;
		if (i && compare_bytes(set->labels[i - 1].name, set->labels[i].name) >= 0)
			return 0;
		size += field_size(label_size(&set->labels[i]));
	}
	return size == length_of(bytes);
}

/* The timestamp of a sample, histogram or exemplar; 0 when there is none (proto3). */
static int read_timestamp(struct bytes inside, uint32_t series_field, int64_t *timestamp)
{
	const uint32_t number = series_field == SERIES_SAMPLE      ? SAMPLE_TIMESTAMP
	                        : series_field == SERIES_HISTOGRAM ? HISTOGRAM_TIMESTAMP
	                                                           : EXEMPLAR_TIMESTAMP;
	struct field field;
	*timestamp = 0;
	while (inside.at < inside.end) {
		int error = read_field(&inside, &field);
		if (error)
			return error;
		if (field.number == number && field.type == WIRE_VARINT)
			*timestamp = (int64_t)field.scalar;
	}
	return 0;
}

static void count_content(struct check_result *result, uint32_t series_field, int64_t timestamp)
{
	result->sample_count += series_field == SERIES_SAMPLE;
	result->exemplar_count += series_field == SERIES_EXEMPLAR;
	result->histogram_count += series_field == SERIES_HISTOGRAM;
	if (timestamp < result->timestamp_min_ms)
		result->timestamp_min_ms = timestamp;
	if (timestamp > result->timestamp_max_ms)
		result->timestamp_max_ms = timestamp;
}

static void start_result(struct check_result *result)
{
	memset(result, 0, sizeof *result);
	result->is_canonical = 1;
	result->timestamp_min_ms = INT64_MAX;
	result->timestamp_max_ms = INT64_MIN;
}

/* Labels that are not in the cache: remember them if they may be stored as they stand. */
static int check_new_labels(struct series_cache *cache, struct location *location, const struct check_limits *limits,
                            struct check_result *result)
{
	struct label_set set;
	int error = collect_labels(location->labels, &set);
	if (error)
		return error;
	if (set.count > limits->label_count_max || set.count > LABELS_MAX || !are_canonical(&set, location->labels) ||
	    reason_of_labels(&set, limits) != ACCEPTED) {
		result->is_canonical = 0;
		return 0;
	}
	error = series_add(cache, location);
	if (error == CACHE_FULL) {
		/* Nothing but speed hangs on the checker's cache. */
		samples_cache_clear(cache);
		error = series_add(cache, location);
	}
	return error == CACHE_FULL ? 0 : error;
}

static int check_series(struct series_cache *cache, struct bytes time_series, const struct check_limits *limits,
                        struct check_result *result)
{
	struct location location;
	struct field field;
	int64_t contents = 0;
	int error = series_locate(cache, &time_series, &location);
	if (!error && !location.known)
		error = check_new_labels(cache, &location, limits, result);
	while (!error && time_series.at < time_series.end) {
		int64_t timestamp;
		error = read_field(&time_series, &field);
		if (error || field.type != WIRE_LEN || field.number > SERIES_HISTOGRAM)
			continue;
		if (field.number == SERIES_LABEL) {
			struct label late;
			result->is_canonical = 0;
			error = read_label(field.inside, &late);
			continue;
		}
		error = read_timestamp(field.inside, field.number, &timestamp);
		if (error)
			return error;
		if (timestamp > limits->timestamp_max_ms)
			result->is_canonical = 0;
		count_content(result, field.number, timestamp);
		contents++;
	}
	if (!contents)
		result->is_canonical = 0;
	result->series_count++;
	return error;
}

/* One pass over a body: counts, time span and whether it may be stored as it came (then nothing is refused).
 * Returns 0 or an error of samples.h. */
int samples_check(struct series_cache *cache, const uint8_t *body, uint64_t length, const struct check_limits *limits,
                  struct check_result *result)
{
	struct bytes request = {body, body + length};
	struct field field;
	start_result(result);
	while (request.at < request.end) {
		int error = read_field(&request, &field);
		if (!error && is_message(&field, REQUEST_TIMESERIES))
			error = check_series(cache, field.inside, limits, result);
		if (error)
			return error;
		result->metadata_count += is_message(&field, REQUEST_METADATA);
	}
	return 0;
}

/* Copies what the series holds besides labels, without what lies in the future. */
static uint8_t *write_contents(uint8_t *at, struct bytes time_series, const struct check_limits *limits,
                               struct check_result *result)
{
	struct field field;
	while (time_series.at < time_series.end) {
		int64_t timestamp;
		if (read_field(&time_series, &field))
			return NULL;
		if (field.type != WIRE_LEN || field.number < SERIES_SAMPLE || field.number > SERIES_HISTOGRAM)
			continue;
		if (read_timestamp(field.inside, field.number, &timestamp))
			return NULL;
		if (timestamp > limits->timestamp_max_ms) {
			result->refused[TIMESTAMP_IN_FUTURE]++;
			continue;
		}
		count_content(result, field.number, timestamp);
		at = write_bytes(at, (uint8_t)(field.number << 3 | WIRE_LEN), field.inside);
	}
	return at;
}

/* One valid series in canonical form, or nothing and a count of what was refused. No longer than it came. */
static uint8_t *write_series(uint8_t *at, struct bytes time_series, const struct check_limits *limits,
                             struct check_result *result)
{
	struct label_set set;
	if (collect_labels(time_series, &set))
		return NULL;
	const int reason = set.contents ? reason_of_labels(&set, limits) : NO_SAMPLES;
	if (reason != ACCEPTED) {
		result->refused[reason] += set.contents ? (int64_t)set.contents : 1;
		return at;
	}
	uint8_t *start = at + 1 + varint_size(length_of(time_series)), *end = start;
	for (uint32_t i = 0; i < set.count; i++) {
		*end++ = SERIES_LABEL << 3 | WIRE_LEN;
		end = write_varint(end, label_size(&set.labels[i]));
		end = write_bytes(end, LABEL_NAME << 3 | WIRE_LEN, set.labels[i].name);
		end = write_bytes(end, LABEL_VALUE << 3 | WIRE_LEN, set.labels[i].value);
	}
	uint8_t *labels_end = end;
	end = write_contents(end, time_series, limits, result);
	if (!end || end == labels_end)
		return end ? at : NULL;
	const uint64_t length = (uint64_t)(end - start);
	*at++ = REQUEST_TIMESERIES << 3 | WIRE_LEN;
	at = write_varint(at, length);
	memmove(at, start, length);
	result->series_count++;
	return at + length;
}

/* The canonical WriteRequest of the valid samples of a body that `samples_check` found well-formed; metadata is kept.
 * `output` holds at least `length` bytes. Returns the bytes written, or an error of samples.h. */
int64_t samples_canonical(const uint8_t *body, uint64_t length, const struct check_limits *limits, uint8_t *output,
                          struct check_result *result)
{
	struct bytes request = {body, body + length};
	struct field field;
	uint8_t *at = output;
	start_result(result);
	result->is_canonical = 0;
	while (request.at < request.end) {
		int error = read_field(&request, &field);
		if (error)
			return error;
		if (is_message(&field, REQUEST_TIMESERIES)) {
			at = write_series(at, field.inside, limits, result);
			if (!at)
				return BODY_TRUNCATED;
		} else if (is_message(&field, REQUEST_METADATA)) {
			at = write_bytes(at, REQUEST_METADATA << 3 | WIRE_LEN, field.inside);
			result->metadata_count++;
		}
	}
	return at - output;
}
