/* Measure the C reader: c_reader NAME MAP. Prints nanoseconds as one JSON object; see c_reader.py. */

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <inttypes.h>
#include <stdio.h>

#ifndef ROUNDS
#define ROUNDS 200
#endif
enum { READS = 50000, LOOKUPS = 10000 };

static volatile uint64_t sink;
static uint64_t words[16] __attribute__((aligned(64)));

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t two_additions(void) {
    int64_t started = now();
    for (int i = 0; i < READS; i++) {
        __atomic_fetch_add(&words[0], 1, __ATOMIC_SEQ_CST);
        __atomic_fetch_sub(&words[0], 1, __ATOMIC_SEQ_CST);
    }
    return now() - started;
}

static int64_t pinned_reads(shmsync *handle) {
    shmsync_snapshot snapshot;
    int64_t started = now();
    for (int i = 0; i < READS; i++) {
        if (shmsync_pin(handle, &snapshot)) exit(1);
        sink += snapshot.payload[0];
        shmsync_unpin(&snapshot);
    }
    return now() - started;
}

/* Look up keys at random: multiples of 7919 below 7919 * count. The next key depends on the value that was found, or
 * several look-ups would overlap. */
static int64_t lookups(const shmsync_value *map) {
    shmsync_value found;
    static uint64_t random = 1;
    int64_t started = now();
    found.i = 0;
    for (int i = 0; i < LOOKUPS; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407) + (uint64_t)(found.i & 1);
        if (shmsync_find_int(map, (int64_t)((random >> 33) % map->size) * 7919, &found)) exit(1);
    }
    sink += (uint64_t)found.i;
    return now() - started;
}

static void keep_least(int64_t *least, int64_t found) { *least = *least && *least < found ? *least : found; }

int main(int count, char **arguments) {
    shmsync *handle, *maps;
    shmsync_snapshot snapshot;
    shmsync_value map;
    int64_t additions = 0, reads = 0, found = 0;
    if (count != 3 || shmsync_attach(&handle, arguments[1], NULL) || shmsync_attach(&maps, arguments[2], NULL)) return 2;
    if (shmsync_pin(maps, &snapshot) || shmsync_parse(&snapshot, &map)) return 1;
    for (int round = 0; round < ROUNDS; round++) { /* in turn, and the least of each: other processes disturb some */
        keep_least(&additions, two_additions());
        keep_least(&reads, pinned_reads(handle));
        keep_least(&found, lookups(&map));
    }
    shmsync_unpin(&snapshot);
    shmsync_detach(handle);
    shmsync_detach(maps);
    printf("{\"additions\": %.2f, \"read\": %.2f, \"lookup\": %.1f}\n", (double)additions / READS, (double)reads / READS,
           (double)found / LOOKUPS);
    return 0;
}
