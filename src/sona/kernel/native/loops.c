/* The loops for every instruction set served, and the choice among them. */
#include "kernel.h"

#include <string.h>

#define NAME(f) f##_baseline
#define TARGET
#define WIDTH 4
#include "loops.h"
#undef NAME
#undef TARGET
#undef WIDTH

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_LEVELS
#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2")))
#define WIDTH 8
#include "loops.h"
#undef NAME
#undef TARGET
#undef WIDTH

#define NAME(f) f##_avx512
#define TARGET __attribute__((target("avx512f")))
#define WIDTH 16
#include "loops.h"
#endif

const Loops *loops = &loops_baseline;
const char *loops_level = "baseline";

static int take(const Loops *chosen, const char *level) {
    loops = chosen;
    loops_level = level;
    return 1;
}

int loops_select(const char *level) {
#ifdef HAS_LEVELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && (level == NULL || strcmp(level, "avx512") == 0))
        return take(&loops_avx512, "avx512");
    if (__builtin_cpu_supports("avx2") && (level == NULL || strcmp(level, "avx2") == 0))
        return take(&loops_avx2, "avx2");
#endif
    return (level == NULL || strcmp(level, "baseline") == 0) && take(&loops_baseline, "baseline");
}
