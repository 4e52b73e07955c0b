/* Brings the driver along as a dependency. */
#include "driver.h"

CUresult cuInit(unsigned int flags);

int needs_driver(void) { return (int)cuInit(0); }
