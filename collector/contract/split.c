/* A canonical body cut by partition: the TimeSeries of one partition, byte for byte and in order, as records.
 *
 * A concatenation of TimeSeries fields is a WriteRequest again, so nothing is written anew. Which partition a series
 * belongs to is asked once (the caller reads its labels) and kept by its place in the series cache. That cache is the
 * checker's too, so each series takes its memory once, and nothing may be cut that the checker did not let pass. What
 * stands beside the TimeSeries in a body (metadata) is left out.
 */
#include "samples.h"

#include <stdlib.h>

/* One TimeSeries of the body, with its tag and length. */
struct piece {
	const uint8_t *at;
	uint64_t length;
	int64_t sample_count;
	uint32_t series;
};

/* One record: `length` bytes of the output from `offset` on. */
struct split_record {
	uint64_t offset;
	uint64_t length;
	int64_t sample_count;
	uint32_t partition;
	uint32_t unused;
};

struct splitter {
	struct series_cache *cache;
	uint32_t *partition_of; /* by series; only the first `assigned` of the cache's `generation` are known */
	uint32_t assigned, partition_of_size, generation;
	uint32_t partition_count;
	struct piece *pieces;
	uint64_t piece_count, piece_size;
	uint64_t *ends;   /* by partition: where its next piece goes */
	int64_t *current; /* by partition: the record its next piece joins, -1 = none yet */
};

void split_free(struct splitter *splitter)
{
	if (!splitter)
		return;
	free(splitter->partition_of);
	free(splitter->pieces);
	free(splitter->ends);
	free(splitter->current);
	free(splitter);
}

/* `cache` is another's, who may fill and empty it between calls, and outlives the splitter; NULL without memory. */
struct splitter *split_new(struct series_cache *cache, uint32_t partition_count)
{
	struct splitter *splitter = calloc(1, sizeof *splitter);
	if (!splitter)
		return NULL;
	splitter->cache = cache;
	splitter->generation = cache->generation;
	splitter->partition_count = partition_count;
	splitter->ends = calloc(partition_count, sizeof *splitter->ends);
	splitter->current = calloc(partition_count, sizeof *splitter->current);
	if (!splitter->ends || !splitter->current) {
		split_free(splitter);
		return NULL;
	}
	return splitter;
}

uint32_t split_assigned(const struct splitter *splitter) { return splitter->assigned; }

/* Say the partitions of the next `count` series. Returns 0 or NO_MEMORY; partitions are below `partition_count`. */
int split_assign(struct splitter *splitter, const uint32_t *partitions, uint32_t count)
{
	const uint64_t needed = (uint64_t)splitter->assigned + count;
	if (needed > splitter->partition_of_size) {
		const uint64_t size = needed * 2 < UINT32_MAX ? needed * 2 : UINT32_MAX;
		uint32_t *grown = realloc(splitter->partition_of, size * sizeof *grown);
		if (!grown)
			return NO_MEMORY;
		splitter->partition_of = grown;
		splitter->partition_of_size = (uint32_t)size;
	}
	for (uint32_t i = 0; i < count; i++)
		splitter->partition_of[splitter->assigned + i] = partitions[i] % splitter->partition_count;
	splitter->assigned += count;
	return 0;
}

static struct piece *next_piece(struct splitter *splitter)
{
	if (splitter->piece_count == splitter->piece_size) {
		uint64_t size = splitter->piece_size * 2 + 1024;
		struct piece *grown = realloc(splitter->pieces, size * sizeof *grown);
		if (!grown)
			return NULL;
		splitter->pieces = grown;
		splitter->piece_size = size;
	}
	return &splitter->pieces[splitter->piece_count++];
}

static int find_piece(struct splitter *splitter, const struct field *field)
{
	struct bytes inside = field->inside;
	struct location location;
	struct field content;
	struct piece *piece = next_piece(splitter);
	if (!piece)
		return NO_MEMORY;
	int error = series_locate(splitter->cache, &inside, &location);
	if (!error && !location.known)
		error = series_add(splitter->cache, &location);
	piece->at = field->at;
	piece->length = (uint64_t)(field->inside.end - field->at);
	piece->series = location.id;
	piece->sample_count = 0;
	while (!error && inside.at < inside.end) {
		error = read_field(&inside, &content);
		piece->sample_count += !error && is_message(&content, SERIES_SAMPLE);
	}
	return error;
}

/* Where each partition's bytes begin in the output. */
static void lay_out(struct splitter *splitter)
{
	uint64_t total = 0;
	memset(splitter->ends, 0, splitter->partition_count * sizeof *splitter->ends);
	for (uint64_t i = 0; i < splitter->piece_count; i++)
		splitter->ends[splitter->partition_of[splitter->pieces[i].series]] += splitter->pieces[i].length;
	for (uint32_t partition = 0; partition < splitter->partition_count; partition++) {
		const uint64_t length = splitter->ends[partition];
		splitter->ends[partition] = total;
		splitter->current[partition] = -1;
		total += length;
	}
}

/* Where records go: `bytes` holds at least as much as the body, `records` holds `record_max`. */
struct split_output {
	uint8_t *bytes;
	struct split_record *records;
	uint64_t record_max;
	uint64_t record_bytes_max;
};

static int64_t write_pieces(struct splitter *splitter, const struct split_output *output)
{
	uint64_t count = 0;
	lay_out(splitter);
	for (uint64_t i = 0; i < splitter->piece_count; i++) {
		const struct piece *piece = &splitter->pieces[i];
		const uint32_t partition = splitter->partition_of[piece->series];
		int64_t *current = &splitter->current[partition];
		if (piece->length > output->record_bytes_max)
			return SERIES_TOO_LARGE;
		if (*current < 0 || output->records[*current].length + piece->length > output->record_bytes_max) {
			if (count == output->record_max)
				return OUTPUT_FULL;
			*current = (int64_t)count++;
			output->records[*current] =
			    (struct split_record){.offset = splitter->ends[partition], .partition = partition};
		}
		memcpy(output->bytes + splitter->ends[partition], piece->at, piece->length);
		splitter->ends[partition] += piece->length;
		output->records[*current].length += piece->length;
		output->records[*current].sample_count += piece->sample_count;
	}
	return (int64_t)count;
}

/* Cut a body into records of at most `record_bytes_max` bytes, each of one partition. Returns their number, an error of
 * samples.h, or SERIES_UNASSIGNED: then say the partitions of the series that are new in the cache and call again. */
int64_t split_body(struct splitter *splitter, const uint8_t *body, uint64_t length, const struct split_output *output)
{
	struct bytes request = {body, body + length};
	struct field field;
	splitter->piece_count = 0;
	if (splitter->generation != splitter->cache->generation) {
		splitter->generation = splitter->cache->generation;
		splitter->assigned = 0;
	}
	while (request.at < request.end) {
		int error = read_field(&request, &field);
		if (!error && is_message(&field, REQUEST_TIMESERIES))
			error = find_piece(splitter, &field);
		if (error)
			return error;
	}
	return splitter->cache->count > splitter->assigned ? SERIES_UNASSIGNED : write_pieces(splitter, output);
}
