/* Memory that graphs allocate when they are launched. */
#ifndef EGPU_GRAPH_MEMORY_H
#define EGPU_GRAPH_MEMORY_H

#include "driver.h"

/* Launches (or uploads) a graph: what its allocation nodes need beyond the reserve of graph memory is taken from the quota
 * first. CUDA_ERROR_OUT_OF_MEMORY without a call when the quota cannot hold it. */
CUresult graph_memory_launch(CUresult (*launch)(CUgraphExec, CUstream), CUgraphExec graph, CUstream stream);

void graph_memory_after_fork(void);

#endif
