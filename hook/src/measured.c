#include "measured.h"

#include "cards.h"
#include "seen.h"

struct measurement measure_begin(int card) {
    struct measurement measurement = {.card = card};
    measurement.seen = card >= 0 && seen_own(card, &measurement.before_bytes);
    return measurement;
}

uint64_t measure_end(const struct measurement *measurement, uint64_t estimate_bytes) {
    uint64_t after;
    if (!measurement->seen || !seen_own(measurement->card, &after))
        return estimate_bytes;
    return after > measurement->before_bytes ? after - measurement->before_bytes : 0;
}
