/* libnvidia-ml as the container sees it. */
#ifndef VIEW_NVML_H
#define VIEW_NVML_H

/* A child of fork starts libnvidia-ml anew. */
void view_nvml_after_fork(void);

#endif
