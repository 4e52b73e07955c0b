/* Mutated bodies through the decoder, the checker and the splitter under sanitizers: `fuzz_samples ROUNDS SEED FILE...`.
 *
 * Every body is copied into memory of exactly its size, so that one byte too far is seen. What the checker writes must
 * be canonical, no longer than it came, and readable; cut into records it must hold the same samples, each series in
 * one partition.
 */
#include "samples.c"
#include "check.c"
#include "split.c"

#include <stdio.h>

enum { BODY_MAX = 1 << 16, ROWS = 64, RECORDS = 24, PARTITIONS = 3, RECORD_BYTES_MAX = 64 };

static uint64_t state;

static uint32_t draw(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? (uint32_t)(state >> 33) % below : 0;
}

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "broken: %s\n", what);
		exit(1);
	}
}

static void mutate(uint8_t *body, size_t *length)
{
	static const uint8_t telling[] = {0x00, 0x01, 0x0a, 0x0b, 0x12, 0x1a, 0x22, 0x7f, 0x80, 0xc3, 0xed, 0xf4, 0xff};
	for (uint32_t changes = 1 + draw(4); changes && *length; changes--) {
		uint32_t at = draw((uint32_t)*length);
		switch (draw(5)) {
		case 0:
			body[at] = telling[draw(sizeof telling)];
			break;
		case 1:
			body[at] ^= (uint8_t)(1u << draw(8));
			break;
		case 2: /* cut the end off */
			*length = at;
			break;
		case 3: /* take a piece out */
			memmove(body + at, body + at + 1, *length - at - 1);
			--*length;
			break;
		default: /* say a piece again */
			if (*length < BODY_MAX - 16) {
				uint32_t size = 1 + draw(15);
				size = size < *length - at ? size : (uint32_t)*length - at;
				memmove(body + at + size, body + at, *length - at);
				*length += size;
			}
		}
	}
}

/* The same for the same labels, whatever place they have in the cache. */
static uint32_t partition_of_series(const struct series_cache *cache, uint32_t series)
{
	return cache->series[series].length % PARTITIONS;
}

static int64_t split(struct splitter *splitter, const uint8_t *body, size_t length, const struct split_output *output)
{
	for (;;) {
		int64_t count = split_body(splitter, body, length, output);
		if (count == CACHE_FULL) {
			samples_cache_clear(splitter->cache);
			count = split_body(splitter, body, length, output);
		}
		if (count != SERIES_UNASSIGNED)
			return count;
		for (uint32_t series = split_assigned(splitter); series < splitter->cache->count; series++) {
			const uint32_t partition = partition_of_series(splitter->cache, series);
			require(!split_assign(splitter, &partition, 1), "no memory");
		}
	}
}

/* Records of a body that is well-formed, with its samples; one that is not must be refused without harm. */
static void cut(struct splitter *splitter, struct series_cache *reader, const uint8_t *body, size_t length,
                int64_t sample_count)
{
	static int32_t series[BODY_MAX];
	static int64_t timestamps[BODY_MAX];
	static uint64_t values[BODY_MAX];
	struct split_record *records = malloc(RECORDS * sizeof *records);
	struct samples_output found = {.series = series, .timestamp_ms = timestamps, .value = values, .capacity = BODY_MAX};
	uint8_t *bytes = malloc(length + !length);
	const struct split_output output = {
	    .bytes = bytes, .records = records, .record_max = RECORDS, .record_bytes_max = RECORD_BYTES_MAX};
	const int64_t count = split(splitter, body, length, &output);
	int64_t told = 0, read = 0;
	for (int64_t i = 0; sample_count >= 0 && i < count; i++) {
		require(records[i].length <= RECORD_BYTES_MAX && records[i].partition < PARTITIONS, "a record out of bounds");
		samples_cache_clear(reader);
		const int64_t decoded = samples_decode(reader, bytes + records[i].offset, records[i].length, &found);
		require(decoded == records[i].sample_count, "a record holds other samples than it says");
		for (int64_t row = 0; row < decoded; row++)
			require(partition_of_series(reader, (uint32_t)series[row]) == records[i].partition, "in another partition");
		told += records[i].sample_count;
		read += decoded;
	}
	if (sample_count >= 0 && count >= 0)
		require(told == sample_count && read == sample_count, "the records hold other samples than the body");
	else if (sample_count >= 0)
		require(count == SERIES_TOO_LARGE || count == OUTPUT_FULL || count == CACHE_FULL, "a valid body was not cut");
	free(bytes);
	free(records);
}

static void look_at(struct series_cache *reader, struct series_cache *checker, struct splitter *splitter,
                    struct splitter *wild, const uint8_t *body, size_t length)
{
	static int32_t series[ROWS];
	static int64_t timestamps[ROWS];
	static uint64_t values[ROWS];
	struct samples_output output = {.series = series, .timestamp_ms = timestamps, .value = values, .capacity = ROWS};
	const struct check_limits limits = {.timestamp_max_ms = 1 << 20, .label_count_max = 8, .label_bytes_max = 64};
	struct check_result result, again;
	if (samples_decode(reader, body, length, &output) == CACHE_FULL)
		samples_cache_clear(reader);
	cut(wild, reader, body, length, -1);
	if (samples_check(checker, body, length, &limits, &result))
		return;
	uint8_t *written = malloc(length + !length);
	int64_t size = samples_canonical(body, length, &limits, written, &result);
	require(size >= 0 && (uint64_t)size <= length, "what was well-formed could not be written");
	uint8_t *exact = malloc((size_t)size + !size);
	memcpy(exact, written, (size_t)size);
	require(!samples_check(checker, exact, (uint64_t)size, &limits, &again), "what was written is corrupt");
	require(again.is_canonical, "what was written is not canonical");
	require(again.sample_count == result.sample_count && again.series_count == result.series_count, "counts differ");
	int64_t decoded = samples_decode(reader, exact, (uint64_t)size, &output);
	if (decoded == CACHE_FULL)
		samples_cache_clear(reader);
	require(decoded == result.sample_count || decoded == OUTPUT_FULL || decoded == CACHE_FULL, "decoded otherwise");
	cut(splitter, reader, exact, (size_t)size, result.sample_count);
	free(exact);
	free(written);
}

int main(int argc, char **argv)
{
	struct series_cache *reader = samples_cache_new(100, 4096, 7), *checker = samples_cache_new(100, 4096, 7);
	/* One with the checker's cache, for what the checker let pass; and one for anything. */
	struct series_cache *unchecked = samples_cache_new(100, 4096, 7);
	struct splitter *splitter = split_new(checker, PARTITIONS), *wild = split_new(unchecked, PARTITIONS);
	static uint8_t body[BODY_MAX];
	const long rounds = strtol(argv[1], NULL, 10);
	state = strtoull(argv[2], NULL, 10) | 1;
	for (long round = 0; round < rounds; round++) {
		FILE *file = fopen(argv[3 + draw((uint32_t)argc - 3)], "rb");
		require(file != NULL, "no such file");
		size_t length = fread(body, 1, BODY_MAX / 2, file);
		fclose(file);
		if (round % 16)
			mutate(body, &length);
		uint8_t *exact = malloc(length + !length);
		memcpy(exact, body, length);
		look_at(reader, checker, splitter, wild, exact, length);
		free(exact);
	}
	split_free(splitter);
	split_free(wild);
	samples_cache_free(unchecked);
	samples_cache_free(reader);
	samples_cache_free(checker);
	return 0;
}
