/* A library with names like the driver's: one the table does not know, one of another maker, and one it does know. */
int cuTomorrow(void) { return 1; }
int cublasCreate_v2(void) { return 2; }
int cuMemAlloc_v2(void) { return 3; }
