/* A reader in C for the stress test: reader NAME OWNER GRACE_MS SEED. Reads until it is killed.
 *
 * Prints JSON objects, one on each line, which c_readers.py judges: a removal from outside permits some of them.
 *
 *     {"c_reads": N, "c_reader_forks": N}
 *     {"mismatch": [seq, number, epoch]}      the value says that it is another version
 *     {"older": [timestamp, newest]}          an older value was read after a newer one
 *     {"result": R, "started": ns}            an error of a read
 *     {"violation": text}                     bytes that changed, or a digest that does not match
 *
 * Between two steps of the protocol there are nanoseconds, and between two publishes a millisecond: by chance alone, one
 * read in 100,000 meets a publish there. So a reader now and then sleeps between two steps, until some versions have been
 * published, and then holds what it has got for as long.
 */

#define SHMSYNC_IMPLEMENTATION
#define SHMSYNC_STEP(name) at_step(name)
static void at_step(const char *name);
#include <shmsync.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum {
    MAX_RETAINED = 6,
    PAUSES = 16, /* a reader sleeps at one in this number of the steps of the protocol */
    PAUSES_AGAIN = 2, /* likewise, once it has slept in the same read */
    FAST_PAUSES = 128, /* likewise, where it pins the version that it knows: so often that it would hardly do else */
    LONGEST_PAUSE = 50000000, /* in nanoseconds */
    SLICE = 50000000 /* how long a reader retains versions, or does not, in nanoseconds */
};

typedef struct fields {
    uint64_t timestamp, number, epoch, digest;
    const unsigned char *content;
    uint64_t size;
} fields;

static const char *name;
static shmsync_options options;
static shmsync *handle;
static shmsync_version seen;
static shmsync_snapshot retained[MAX_RETAINED];
static uint64_t hashes[MAX_RETAINED], newest, seed, state, reads, forks;
static int retained_count, depth;
static bool has_paused; /* since the last look at it */
static long grace_ns;

static uint64_t random_below(uint64_t limit) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % limit;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void pause_for(uint64_t nanoseconds) {
    struct timespec time = {(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
    nanosleep(&time, NULL);
}

/* Sleep until a few versions have been published, or a few grace durations are over; no longer, because in an
 * incarnation that has ended there are no more. */
static void wait_for_writer(void) {
    uint64_t seq = shmsync__load(handle->version, __ATOMIC_RELAXED), count = 1 + random_below(4);
    uint64_t end = now() + random_below(LONGEST_PAUSE + 4 * (uint64_t)grace_ns);
    while (now() < end) {
        uint64_t newest_seq = shmsync__load(handle->version, __ATOMIC_RELAXED);
        if (newest_seq != SHMSYNC_CLOSED_ && newest_seq >= seq + count) return;
        pause_for(20000);
    }
}

static void at_step(const char *name) {
    int rarity = has_paused ? PAUSES_AGAIN : strcmp(name, "guessed") ? PAUSES : FAST_PAUSES;
    if (random_below((uint64_t)rarity)) return;
    has_paused = true;
    wait_for_writer();
}

static uint64_t hash_of(const shmsync_snapshot *snapshot) {
    uint64_t hash = snapshot->size, word;
    for (uint64_t at = 0; at + 8 <= snapshot->size; at += 8) {
        memcpy(&word, snapshot->payload + at, 8);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return hash;
}

static void violation(const char *text, const shmsync_snapshot *snapshot) {
    printf("{\"violation\": \"C reader: %s, version %" PRIu64 " of %" PRIu64 " bytes\"}\n", text, snapshot->version.seq,
           snapshot->size);
    fflush(stdout);
}

static uint64_t field(const shmsync_value *map, const char *key) {
    shmsync_value found;
    return shmsync_find_str(map, key, strlen(key), &found) ? 0 : found.u;
}

/* Read the parts of a value; false if it is not one. */
static bool unpack(const shmsync_snapshot *snapshot, fields *out) {
    shmsync_value value, content;
    uint64_t words[4];
    memset(out, 0, sizeof *out);
    if (shmsync_parse(snapshot, &value)) return false;
    if (value.type == SHMSYNC_BYTES) {
        memcpy(words, value.data, value.size < sizeof words ? value.size : sizeof words);
        if (value.size == 16) {
            out->number = words[0], out->epoch = words[1];
            return true;
        }
        if (value.size < sizeof words) return false;
        out->timestamp = words[0], out->number = words[1], out->epoch = words[2], out->digest = words[3];
        out->content = value.data + sizeof words, out->size = value.size - sizeof words;
        return true;
    }
    if (value.type != SHMSYNC_MAP || shmsync_find_str(&value, "content", 7, &content)) return false;
    if (content.type != SHMSYNC_BYTES) return false;
    out->timestamp = field(&value, "timestamp"), out->number = field(&value, "number");
    out->epoch = field(&value, "epoch"), out->digest = field(&value, "digest");
    out->content = content.data, out->size = content.size;
    return true;
}

static void check(const shmsync_snapshot *snapshot) {
    fields found;
    seen = snapshot->version;
    if (!unpack(snapshot, &found)) {
        violation("the value cannot be read", snapshot);
        return;
    }
    if (found.number && found.number != snapshot->version.seq)
        printf("{\"mismatch\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "]}\n", snapshot->version.seq, found.number, found.epoch);
#if SHMSYNC_XXHASH
    if (found.digest && XXH3_64bits(found.content, found.size) != found.digest) violation("a wrong digest", snapshot);
#endif
    if (random_below(8) == 0 && shmsync_verify(snapshot) == SHMSYNC_E_DAMAGED) violation("damaged", snapshot);
    if (!found.timestamp) return;
    if (found.timestamp < newest)
        printf("{\"older\": [%" PRIu64 ", %" PRIu64 "]}\n", found.timestamp, newest);
    newest = found.timestamp;
}

/* Pin; report an error that a reader should not see. */
static bool pin(shmsync_snapshot *snapshot) {
    uint64_t started = now();
    int result = shmsync_pin(handle, snapshot);
    if (!result) return true;
    if (result == SHMSYNC_E_NOT_FOUND || result == SHMSYNC_E_NOT_PUBLISHED || result == SHMSYNC_E_FULL)
        pause_for(1000000);
    else
        printf("{\"result\": %d, \"started\": %" PRIu64 "}\n", result, started);
    return false;
}

static void read_once(void) {
    shmsync_snapshot snapshot;
    if (!pin(&snapshot)) return;
    uint64_t hash = hash_of(&snapshot);
    check(&snapshot);
    bool is_long = has_paused || random_below(200) == 0;
    if (is_long) wait_for_writer();
    has_paused = false;
    if (!depth && random_below(is_long ? 2 : 8) == 0) { /* two snapshots that overlap */
        depth++;
        read_once();
        depth--;
    }
    if (hash_of(&snapshot) != hash) violation("a pinned payload has changed", &snapshot);
    shmsync_unpin(&snapshot);
}

/* Release one of the retained snapshots, not always the newest or the oldest. */
static void release_one(void) {
    int index = (int)random_below((uint64_t)retained_count);
    if (hash_of(&retained[index]) != hashes[index]) violation("a retained payload has changed", &retained[index]);
    shmsync_release(&retained[index]);
    retained_count--;
    for (; index < retained_count; index++) {
        retained[index] = retained[index + 1];
        hashes[index] = hashes[index + 1];
    }
}

static void release_all(void) {
    while (retained_count) release_one();
}

/* Release some, and hold the others while the writer goes on. */
static void release_some(void) {
    for (int count = (int)random_below(MAX_RETAINED); retained_count > 1 && count; count--) release_one();
    if (random_below(2)) wait_for_writer();
}

static void retain(void) {
    if (retained_count == MAX_RETAINED) release_all();
    shmsync_snapshot *snapshot = &retained[retained_count];
    if (!pin(snapshot)) return;
    hashes[retained_count] = hash_of(snapshot);
    check(snapshot);
    shmsync_retain(snapshot);
    retained_count++;
}

/* Retain two versions of one data segment, or one twice, or others; release one long before the other. */
static void retain_two(void) {
    release_all();
    retain();
    if (random_below(2)) wait_for_writer();
    retain();
    if (retained_count == 2) release_one();
    wait_for_writer();
    release_all();
}

static void fork_once(void) {
    shmsync_snapshot snapshot;
    if (!pin(&snapshot)) return;
    uint64_t hash = hash_of(&snapshot);
    bool is_unpinned = random_below(2), is_sealed = random_below(2);
    if (is_sealed) shmsync_seal(handle);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (random_below(2)) wait_for_writer();
        bool good = !is_sealed || hash_of(&snapshot) == hash;
        shmsync_unpin(&snapshot);
        release_all();
        shmsync_detach(handle);
        if (!good) violation("a sealed payload has changed in a child", &snapshot);
        if (shmsync_attach(&handle, name, &options)) _exit(1);
        read_once();
        fflush(stdout);
        _exit(0);
    }
    if (is_unpinned) shmsync_unpin(&snapshot);
    if (random_below(3) == 0) kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    forks++;
    if (is_unpinned) return;
    wait_for_writer(); /* the child has ended its copy of the snapshot */
    if (hash_of(&snapshot) != hash) violation("a payload has changed that a child has inherited", &snapshot);
    shmsync_unpin(&snapshot);
}

static void act(void) {
    uint64_t action = random_below(1000), slice = now() / SLICE;
    /* Every other second no reader retains a value, or hardly any write would be in place; see readers.py. In the
     * others, not all readers at once. */
    bool retaining = now() / 1000000000u % 2 && (slice ^ seed) % 3 == 0;
    if (action < 750 || (action < 850 && !retaining))
        read_once();
    else if (action < 850)
        retain();
    else if (action < 870 && retained_count)
        release_some();
    else if (action < 880)
        release_all();
    else if (action < 900)
        retain_two();
    else if (action < 980)
        shmsync_wait(handle, seen, 1000000, NULL); /* or the readers would take the processor from the writers */
    else if (action < 995)
        fork_once();
    else {
        shmsync_detach(handle);
        if (shmsync_attach(&handle, name, &options)) _exit(1);
    }
    reads++;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    name = arguments[1];
    options.owner = (uid_t)strtoul(arguments[2], NULL, 10);
    grace_ns = 1000000 * strtol(arguments[3], NULL, 10);
    state = seed = strtoull(arguments[4], NULL, 10);
    if (setpriority(PRIO_PROCESS, 0, 5) || shmsync_attach(&handle, name, &options)) return 1; /* as readers.py */
    for (uint64_t due = 0;; act()) {
        if (now() < due) continue;
        printf("{\"c_reads\": %" PRIu64 ", \"c_reader_forks\": %" PRIu64 "}\n", reads, forks);
        fflush(stdout);
        reads = forks = 0;
        due = now() + 100000000u;
    }
}
