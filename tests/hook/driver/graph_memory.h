/* Memory of graphs: an address from the moment the node is made, bytes of the card from each launch to the free. */
#ifndef EGPU_SIM_GRAPH_MEMORY_H
#define EGPU_SIM_GRAPH_MEMORY_H

#include "memory.h"

/* Of a capturing stream: adds the node. */
CUresult graph_memory_capture(CUdeviceptr *address, size_t bytes, int card, CUstream stream);
CUresult graph_memory_capture_free(CUdeviceptr address, CUstream stream);
/* Frees what a launch allocated, outside graphs; under memory_enter(). */
CUresult graph_memory_free(struct memory_range *range);
/* The range with its address ends (graph destroyed, context ended); under memory_enter(). */
void graph_memory_end(struct memory_range *range);

#endif
