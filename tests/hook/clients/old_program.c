/* Linked against a driver of today, run on an old one: prints what a function answers that the old one lacks. */
#include <stdio.h>

#include "driver.h"

CUresult cuInit(unsigned int flags);
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra);

int main(void)
{
    CUlaunchConfig config = {.gridDimX = 1};
    printf("%d %d\n", (int)cuInit(0), (int)cuLaunchKernelEx(&config, NULL, NULL, NULL));
    return 0;
}
