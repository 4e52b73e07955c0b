/* What a call takes of the card, where no argument says it: the driver's figure for this process before and after. */
#ifndef MEASURED_H
#define MEASURED_H
#include "driver.h"

#include <stdbool.h>

struct measurement {
    int card;
    bool seen;
    uint64_t before_bytes;
};

struct measurement measure_begin(int card);
/* Bytes taken since; the estimate when the driver does not name this process. */
uint64_t measure_end(const struct measurement *measurement, uint64_t estimate_bytes);

#endif
