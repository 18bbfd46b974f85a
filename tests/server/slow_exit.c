// A library for LD_PRELOAD whose exit handler takes 30 seconds. It is loaded first, so its handler runs after those of a
// driver. Until the process ends, all other threads continue without what the driver's handlers have freed.
#include <unistd.h>

__attribute__((destructor)) static void slow(void) { sleep(30); }
