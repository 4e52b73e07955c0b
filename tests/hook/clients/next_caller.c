/* Calls what a second preloaded library stands in for. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    printf("%d\n", (int)getppid() > 0);
    return 0;
}
