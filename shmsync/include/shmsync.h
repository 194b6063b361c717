/* shmsync.h: read what shmsync publishes, from C11 and C++17. Linux, 64 bits, GCC or Clang; needs libc only.
 *
 * In one source file of your program, before any other header:
 *
 *     #define SHMSYNC_IMPLEMENTATION
 *     #include <shmsync.h>
 *
 * Everywhere else include it without the macro. One copy of the implementation, rather than static inline functions in
 * every file, because it has state for the whole process (how it notices a fork), and because other languages need
 * symbols to link to:
 *
 *     cc -shared -fPIC -O2 -DSHMSYNC_IMPLEMENTATION -x c shmsync.h -o libshmsync.so
 *
 * `python -m shmsync --include` prints the folder of this file. If xxhash.h (0.8 or later) is on the include path when
 * the implementation is compiled, digests are verified, and string keys are found by hash; without it, string keys are
 * compared in order. `shmsync_has_xxhash` tells. The format is described in docs/format.md; this is layout version 2.
 *
 *     shmsync *prices;
 *     shmsync_snapshot newest;
 *     shmsync_value value, price;
 *     if (!shmsync_attach(&prices, "prices", NULL) && !shmsync_pin(prices, &newest)) {
 *         if (!shmsync_parse(&newest, &value) && !shmsync_find_str(&value, "EURUSD", 6, &price))
 *             printf("%f\n", price.f);
 *         shmsync_unpin(&newest);
 *     }
 *     shmsync_detach(prices);
 *
 * Rules
 *
 * - Threads: a handle, its snapshots, and the values in them belong to one thread at a time. A process may have any
 *   number of handles; each occupies one reader slot of the name while it is attached. The functions that take a
 *   `const shmsync_value *` only read: any thread may call them while the snapshot is held.
 * - Lifetime: the bytes of a snapshot do not change, and stay mapped, until `shmsync_unpin` or `shmsync_release`. Every
 *   pointer in a value points into the snapshot.
 * - Fork: a forked child cannot use what it inherits; its calls return SHMSYNC_E_FORKED. It attaches for itself. If the
 *   child is to go on reading the bytes of a snapshot, call `shmsync_seal` right before the fork. A child that neither
 *   detaches nor calls exec keeps the slots of its parent locked if the parent dies.
 * - Signals: no function is async-signal-safe. longjmp out of one is not supported.
 * - Other languages may reserve 128 bytes for a shmsync_snapshot and 512 for a shmsync_value, aligned to 8, and declare
 *   only the fields without _ at their end.
 * - A value of another user, or a damaged one, gives an error and never an access beyond the segment. A program that
 *   truncates a mapped segment kills its readers by SIGBUS; only the owner of the name, and root, can do that.
 *
 * Memory orders. Shared words are accessed by the __atomic built-ins with the orders of C11, because <stdatomic.h> does
 * not compile as C++17. Each access below says what it pairs with. Apache-2.0.
 */

#ifndef SHMSYNC_H
#define SHMSYNC_H

#if defined(SHMSYNC_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1 /* F_OFD_SETLK, MADV_WIPEONFORK, syscall */
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef SHMSYNC_API
#define SHMSYNC_API extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------------- results */

/* Every function that can fail returns SHMSYNC_OK or one of the negative numbers. */
enum {
    SHMSYNC_OK = 0,
    SHMSYNC_E_NOT_FOUND = -1,     /* no process has published under this name, or it was removed */
    SHMSYNC_E_NOT_PUBLISHED = -2, /* the name exists, but no value is published yet */
    SHMSYNC_E_LAYOUT = -3,        /* another layout version, byte order or word size, or another program's file */
    SHMSYNC_E_DAMAGED = -4,       /* a segment or a payload contains what shmsync does not write; publish again */
    SHMSYNC_E_FORBIDDEN = -5,     /* no permission, or the segments belong to a user that is not trusted */
    SHMSYNC_E_FULL = -6,          /* every reader slot is held by a live reader */
    SHMSYNC_E_TIMEOUT = -7,       /* no other version within the timeout */
    SHMSYNC_E_BUSY = -8,          /* the writer, or a remover, was faster many times in a row; call again */
    SHMSYNC_E_FORKED = -9,        /* the handle was inherited by a fork; attach in the child */
    SHMSYNC_E_INVALID = -10,      /* an invalid argument: a name, an empty snapshot, a misaligned payload */
    SHMSYNC_E_SYSTEM = -11,       /* a system call failed; errno says why, such as EMFILE or ENOMEM */
    SHMSYNC_E_MISSING = -12,      /* the map has no such key, or the list no such index */
    SHMSYNC_E_TYPE = -13,         /* the value is of another type */
    SHMSYNC_E_UNSUPPORTED = -14,  /* the codec cannot be read here, or the call needs xxhash.h */
    SHMSYNC_E_DEPTH = -15,        /* a value is nested more than SHMSYNC_MAX_DEPTH levels deep */
    SHMSYNC_E_INTERRUPTED = -16   /* a signal handler ran during a wait */
};

/* Return one English sentence for a result, without a newline. The text is static. Any thread. */
SHMSYNC_API const char *shmsync_strerror(int result);

/* Return whether the implementation was compiled with xxhash.h. Any thread. */
SHMSYNC_API bool shmsync_has_xxhash(void);

/* ------------------------------------------------------------------------------------------------------- reading */

/* A handle on a name. */
typedef struct shmsync shmsync;

/* What identifies a version. Sequence numbers start again at 1 with each incarnation of a name, so both count. */
typedef struct shmsync_version {
    uint64_t incarnation;
    uint64_t seq;
} shmsync_version;

/* Options of `shmsync_attach`; all zero for the defaults. */
typedef struct shmsync_options {
    uid_t owner;    /* also trust segments of this user; those of the caller and of root always are */
    bool any_owner; /* trust the segments of all users */
} shmsync_options;

/* The codecs of a payload. From 2^31: a codec that a Python program has registered. */
enum {
    SHMSYNC_CODEC_MSGPACK = 0,
    SHMSYNC_CODEC_RAW = 1,
    SHMSYNC_CODEC_ARCHIVE = 2,
    SHMSYNC_CODEC_ARROW = 3,
    SHMSYNC_CODEC_PICKLE = 4,
    SHMSYNC_CODEC_MSGPACK_EXT = 5
};

/* One version that is held. Fields that end with _ are private. A snapshot may be copied, but ended once only. */
typedef struct shmsync_snapshot {
    const unsigned char *payload; /* aligned to 64 bytes */
    uint64_t size;                /* of the payload, in bytes */
    shmsync_version version;
    uint32_t codec;
    int32_t state_;
    shmsync *owner_;
    struct shmsync_slot_ *slot_;
    struct shmsync_map_ *map_;
} shmsync_snapshot;

/* Open a handle on a name. The name need not exist yet: the first call that needs it attaches.
 *
 * Errors: INVALID (the name is not 1 to 200 of A-Z a-z 0-9 . _ -, or it is . or ..), SYSTEM. `*out` is then NULL.
 * Threads: any.
 */
SHMSYNC_API int shmsync_attach(shmsync **out, const char *name, const shmsync_options *options);

/* Close a handle; NULL is permitted. Its snapshots stay valid, and each must still be ended.
 *
 * Threads: the handle's. In a forked child it frees memory and descriptors, and changes no shared word.
 */
SHMSYNC_API void shmsync_detach(shmsync *handle);

/* Pin the newest version. It takes a bounded number of steps, whatever the writer does; if the version is the one that
 * was pinned last, no system call. While it is pinned the writer waits up to its grace duration for this reader before
 * it allocates new memory, so unpin it soon, or retain it.
 *
 * If the name was removed and created again, it attaches to the new incarnation. One that was removed from outside,
 * without a mark, is noticed by every 256th call if a second has passed since the last check, by `shmsync_wait`, and by
 * `shmsync_refresh`.
 *
 * Errors: NOT_FOUND, NOT_PUBLISHED, LAYOUT, DAMAGED, FORBIDDEN, FULL, BUSY, FORKED, SYSTEM. Nothing is then pinned.
 * Threads: the handle's.
 */
SHMSYNC_API int shmsync_pin(shmsync *handle, shmsync_snapshot *out);

/* End a snapshot that is pinned. `payload` and all values in it become invalid.
 *
 * Errors: INVALID (it is not pinned: ended or retained). Threads: the handle's. In a forked child as `shmsync_detach`.
 */
SHMSYNC_API int shmsync_unpin(shmsync_snapshot *snapshot);

/* Unpin a snapshot, but keep its memory: the writer never waits for it, and replaces the inode instead of writing to
 * it. Several snapshots may be retained; each costs the memory of a version.
 *
 * Errors: INVALID (it is not pinned), FORKED. Threads: the handle's.
 */
SHMSYNC_API int shmsync_retain(shmsync_snapshot *snapshot);

/* End a snapshot that is retained. Errors and threads: as `shmsync_unpin`. */
SHMSYNC_API int shmsync_release(shmsync_snapshot *snapshot);

/* Wait until the newest version is another one than `seen`; all zero: until there is one.
 *
 * `seen` is the version that you have processed, `snapshot.version`. A version that was published before the call
 * returns at once, so none is missed between a pin and a wait; of several, only the newest is returned. It also waits
 * for a name that does not exist yet.
 *
 * timeout_ns: the longest wait in nanoseconds; negative: no limit. newest: may be NULL.
 *
 * Errors: TIMEOUT, INTERRUPTED, LAYOUT, DAMAGED, FORBIDDEN, BUSY, FORKED, SYSTEM. Threads: the handle's.
 */
SHMSYNC_API int shmsync_wait(shmsync *handle, shmsync_version seen, int64_t timeout_ns, shmsync_version *newest);

/* Attach again if the name was removed and created again, also from outside. Errors: FORKED. Threads: the handle's. */
SHMSYNC_API int shmsync_refresh(shmsync *handle);

/* Make the bytes of all open snapshots of a handle immutable for good, for all readers. Call it right before a fork
 * after which the child goes on reading them. It costs the writer one new inode for each data segment.
 *
 * Errors: FORKED. Threads: the handle's.
 */
SHMSYNC_API int shmsync_seal(shmsync *handle);

/* Compare all bytes of a snapshot with their digests.
 *
 * Errors: DAMAGED, UNSUPPORTED (compiled without xxhash.h), INVALID. Threads: any, while the snapshot is held.
 */
SHMSYNC_API int shmsync_verify(const shmsync_snapshot *snapshot);

/* What may differ between an older version and a snapshot. All fields are private. */
typedef struct shmsync_changes {
    const unsigned char *at_, *entry_end_, *end_;
    uint64_t size_, row_size_, base_, left_, padding_;
} shmsync_changes;

/* Iterate over what the updates after version `since` have changed, which is known if all versions since then are
 * updates of one writer, and not too many. `since` is a sequence number of the same incarnation.
 *
 * Errors: MISSING (it is not known: all bytes may differ), INVALID (`since` is newer). Threads: any, while the snapshot
 * is held.
 */
SHMSYNC_API int shmsync_changes_since(const shmsync_snapshot *snapshot, uint64_t since, shmsync_changes *out);
/* Return 1 and a range of bytes of the payload that may differ, or 0 after the last. Ranges have no order, and may
 * overlap. Errors: DAMAGED. */
SHMSYNC_API int shmsync_next_change(shmsync_changes *changes, uint64_t *start, uint64_t *end);

/* -------------------------------------------------------------------------------------------------------- values */

/* How deep a value may be nested: more than shmsync publishes. A recursive function over values is bounded by it. */
#define SHMSYNC_MAX_DEPTH 1024
#define SHMSYNC_MAX_DIMS 64

enum {
    SHMSYNC_NULL = 0,
    SHMSYNC_BOOL = 1,  /* i: 0 or 1 */
    SHMSYNC_INT = 2,   /* i */
    SHMSYNC_UINT = 3,  /* u: more than INT64_MAX */
    SHMSYNC_FLOAT = 4, /* f */
    SHMSYNC_STR = 5,   /* data, size: UTF-8 in a healthy payload; not terminated by NUL */
    SHMSYNC_BYTES = 6, /* data, size */
    SHMSYNC_LIST = 7,  /* size: number of elements */
    SHMSYNC_MAP = 8,   /* size: number of entries */
    SHMSYNC_ARRAY = 9, /* data, size in bytes; see shmsync_array_of */
    SHMSYNC_EXT = 10   /* ext_type; data, size: an extension of msgpack */
};

/* A column of an archive; private. */
typedef struct shmsync_column_ {
    uint32_t kind;
    uint32_t wide; /* whether a is a buffer of offsets */
    uint64_t at, n;
    const unsigned char *a, *b;
    uint64_t word[6];
} shmsync_column_;

/* A value in a payload. Only the fields of its type are set. Fields that end with _ are private. */
typedef struct shmsync_value {
    int32_t type;
    int32_t ext_type;
    int64_t i;
    uint64_t u;
    double f;
    const unsigned char *data;
    uint64_t size;
    const unsigned char *base_; /* the payload */
    uint64_t length_;           /* its size */
    const unsigned char *end_;  /* msgpack: end of the body; NULL in an archive */
    uint64_t first_;            /* archive: first element or entry of the child columns */
    uint32_t depth_;
    uint32_t struct_;                /* whether a map is an element of a STRUCT column */
    shmsync_column_ keys_, values_;  /* archive: keys of a map; elements of a list, values of a map */
    const unsigned char *table_;     /* archive: hash table of a map, or fields of a struct */
    uint64_t buckets_;
} shmsync_value;

/* An array of elements of one dtype. */
typedef struct shmsync_array {
    const char *dtype; /* as in .npy files, such as <f4, or JSON: see docs/format.md; not terminated by NUL */
    uint64_t dtype_size;
    uint64_t itemsize; /* bytes of an element */
    const unsigned char *data;
    uint64_t size;  /* in bytes */
    uint32_t ndim;
    char order; /* 'C': row-major, 'F': column-major */
    uint64_t shape[SHMSYNC_MAX_DIMS];
} shmsync_array;

/* Read the value of a snapshot. Codecs msgpack, archive and raw (which is BYTES), and arrow (BYTES: the IPC stream).
 *
 * No memory is allocated, and nothing is read beyond what the value needs. So damage may be found by any function that
 * takes a value. Errors: DAMAGED, LAYOUT (another version of archives), UNSUPPORTED (another codec), INVALID.
 * Threads: any, while the snapshot is held; this is so for all functions below.
 */
SHMSYNC_API int shmsync_parse(const shmsync_snapshot *snapshot, shmsync_value *out);

/* The same for a payload that is not in a snapshot, such as a copy. */
SHMSYNC_API int shmsync_parse_bytes(uint32_t codec, const void *payload, uint64_t size, shmsync_value *out);

/* Return an element of a list. In an archive it takes a constant time, in msgpack one step for each value before it.
 * Errors: TYPE, MISSING, DAMAGED, DEPTH. */
SHMSYNC_API int shmsync_at(const shmsync_value *list, uint64_t index, shmsync_value *out);

/* Return the value of a key of a map. Archives of more than 64 keys have a hash table; otherwise keys are compared in
 * order. Keys of a map are unique. An integer is found as Python finds it: also among floats and bools that equal it.
 * Errors: TYPE, MISSING, DAMAGED, DEPTH. */
SHMSYNC_API int shmsync_find_int(const shmsync_value *map, int64_t key, shmsync_value *out);
SHMSYNC_API int shmsync_find_uint(const shmsync_value *map, uint64_t key, shmsync_value *out);
SHMSYNC_API int shmsync_find_str(const shmsync_value *map, const char *key, size_t size, shmsync_value *out);

/* Iterate over the elements of a list or the entries of a map, in the order in which they were published. */
typedef struct shmsync_iter {
    const shmsync_value *of;
    uint64_t next_;
    const unsigned char *at_;
} shmsync_iter;

/* Start an iteration. `container` must stay where it is. Errors: TYPE. */
SHMSYNC_API int shmsync_iterate(const shmsync_value *container, shmsync_iter *out);
/* Return 1 and the next element or entry, or 0 after the last. `key` may be NULL, and is not set for a list.
 * Errors: DAMAGED, DEPTH. */
SHMSYNC_API int shmsync_next(shmsync_iter *iter, shmsync_value *key, shmsync_value *value);

/* Return the integers or floats of a list in place: one that an archive stores as a vector. `*out` points to as many
 * elements as the list has. Errors: TYPE (elements of another type; use shmsync_at), INVALID (a misaligned copy). */
SHMSYNC_API int shmsync_ints(const shmsync_value *list, const int64_t **out);
SHMSYNC_API int shmsync_floats(const shmsync_value *list, const double **out);

/* Describe an array. Its bytes are as many as shape and dtype say. Errors: TYPE, DAMAGED, UNSUPPORTED (more than
 * SHMSYNC_MAX_DIMS dimensions). */
SHMSYNC_API int shmsync_array_of(const shmsync_value *value, shmsync_array *out);

/* Return the list in an extension of codec 5, such as ["decimal", "1.50"]; see docs/format.md.
 * Errors: TYPE, DAMAGED, DEPTH. */
SHMSYNC_API int shmsync_ext_of(const shmsync_value *value, shmsync_value *out);

/* Return the time in an extension of type -1. Errors: TYPE, DAMAGED. */
SHMSYNC_API int shmsync_timestamp_of(const shmsync_value *value, int64_t *seconds, uint32_t *nanoseconds);

#ifdef __cplusplus
}
#endif
#endif /* SHMSYNC_H */

#if defined(SHMSYNC_IMPLEMENTATION) && !defined(SHMSYNC_IMPLEMENTED)
#define SHMSYNC_IMPLEMENTED 1

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if !defined(__GNUC__) || !defined(__linux__)
#error "shmsync.h needs GCC or Clang, and Linux"
#endif
#if !defined(O_CLOEXEC) || !defined(__USE_GNU) && defined(__GLIBC__)
#error "include shmsync.h with SHMSYNC_IMPLEMENTATION before any other header, or define _GNU_SOURCE"
#endif
#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifdef __cplusplus
#define SHMSYNC_ASSERT_ static_assert
#else
#define SHMSYNC_ASSERT_ _Static_assert
#endif
SHMSYNC_ASSERT_(sizeof(void *) == 8 && sizeof(off_t) == 8, "shmsync needs a system of 64 bits");
SHMSYNC_ASSERT_(sizeof(shmsync_snapshot) <= 128 && sizeof(shmsync_value) <= 512, "see the rules for other languages");

#if !defined(SHMSYNC_NO_XXHASH) && defined(__has_include)
#if __has_include("xxhash.h")
#define XXH_INLINE_ALL
#include "xxhash.h"
#if XXH_VERSION_NUMBER >= 800
#define SHMSYNC_XXHASH 1
#endif
#endif
#endif
#ifndef SHMSYNC_XXHASH
#define SHMSYNC_XXHASH 0
#endif

/* Tests define this, to stop or pause at a step of the protocol. */
#ifndef SHMSYNC_STEP
#define SHMSYNC_STEP(name) ((void)0)
#endif
#ifndef SHMSYNC_DIRECTORY
#define SHMSYNC_DIRECTORY "/dev/shm/"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The layout: docs/format.md. */
#define SHMSYNC_STATE_MAGIC_ UINT64_C(0x53434E59534D4853)
#define SHMSYNC_PUBLIC_MAGIC_ UINT64_C(0x50434E59534D4853)
#define SHMSYNC_READERS_MAGIC_ UINT64_C(0x52434E59534D4853)
#define SHMSYNC_DATA_MAGIC_ UINT64_C(0x44434E59534D4853)
#define SHMSYNC_LOG_MAGIC_ UINT64_C(0x43434E59534D4853)
#define SHMSYNC_ARCHIVE_MAGIC_ UINT64_C(0x31484352414D4853)
#define SHMSYNC_CLOSED_ UINT64_MAX
#define SHMSYNC_NEVER_ (UINT64_MAX - 1) /* no version has this sequence number */
#define SHMSYNC_EVICTED_ (UINT64_C(1) << 63)
#define SHMSYNC_ANNOUNCE_ (UINT64_C(1) << 48)

enum {
    SHMSYNC_LAYOUT_ = 2,
    SHMSYNC_STATE_SIZE_ = 4096,
    SHMSYNC_SLOTS_AT_ = 128,
    SHMSYNC_SLOT_SIZE_ = 64,
    SHMSYNC_MAX_READERS_ = 1 << 16,
    SHMSYNC_PAYLOAD_AT_ = 64,
    SHMSYNC_BLOCK_ = 8192,
    SHMSYNC_LOG_HEADER_ = 48,
    SHMSYNC_LOG_ENTRY_ = 16, /* size and digest, before the parts */
    SHMSYNC_LOG_PART_ = 24,
    SHMSYNC_PROBES_ = 8,
    SHMSYNC_FAST_PINS_ = 256, /* before a look at the clock */
    SHMSYNC_ATTEMPTS_ = 64    /* evictions in a row, and attachments in a row, before BUSY */
};

/* Bits of a pin word: the two counts; and those that are set if a slot is evicted, or has 2^20 pins or more, long
 * before a count overflows. Nobody enters through such a slot. */
#define SHMSYNC_COUNTS_ ((UINT64_C(1) << 48) - 1)
#define SHMSYNC_UNUSABLE_ (SHMSYNC_EVICTED_ | UINT64_C(0xF0000000F00000))

/* Not inlined, so that the fast path saves no registers. */
#define SHMSYNC_COLD_ __attribute__((noinline, cold))

enum { SHMSYNC_ENDED_, SHMSYNC_PINNED_, SHMSYNC_RETAINED_ };

/* One incarnation, mapped. The state is mapped read-only; there is no reader table in isolated mode. */
typedef struct shmsync_link_ {
    uint64_t refs, incarnation;
    unsigned char *state, *table;
    ino_t state_inode, table_inode;
    dev_t device;
    uint32_t max_readers;
    int isolated;
} shmsync_link_;

/* A claimed slot. It is released when neither the handle nor a retained snapshot refers to it, and its pin word counts
 * no snapshot: so that pin and unpin need no count of their own. */
typedef struct shmsync_slot_ {
    uint64_t refs;
    uint64_t generation[2], retained[2]; /* what the hazard words contain, and how many snapshots retain that */
    shmsync_link_ *link;
    uint64_t *words; /* pin word, hazard words */
    uint32_t number;
    int fd; /* its open file description holds the lock of the slot */
    uint64_t process;
} shmsync_slot_;

/* A mapped inode of a data segment. The handle refers to the newest of each segment, and each snapshot to its own. */
typedef struct shmsync_map_ {
    uint64_t refs;
    const unsigned char *base;
    uint64_t length, generation, checksum;
    shmsync_snapshot ready; /* of the version that was checked last; its seq is 0 if there is none */
    int index;
    ino_t inode;
} shmsync_map_;

struct shmsync {
    /* For the fast path, in one or two cache lines: so few dependent loads precede the atomic additions. */
    const uint64_t *version; /* the version word; of a detached handle, a word that is 0 */
    uint64_t *pin;           /* the pin word of the slot */
    uint64_t one;            /* what a pin of the snapshot below adds to it */
    shmsync_slot_ *slot;
    uint64_t process;       /* what shmsync__process returns, unless this is a forked child */
    uint32_t pins, unpins;  /* on the fast path, which are not yet in the refs of the mapping: see settle */
    shmsync_snapshot ready; /* what a pin returns, if its seq is the newest: checked, and of this slot */
    uint64_t refs;          /* the caller's, and one of each mapping */
    shmsync_link_ *link;
    shmsync_map_ *maps[2];
    uid_t owner;
    bool any_owner, detached;
    int64_t check_due;
    char name[201];
};

/* ------------------------------------------------------------------------------------------------ words and hashes */

static uint64_t *shmsync__word(const unsigned char *base, size_t at) { return (uint64_t *)(uintptr_t)(base + at); }

static uint64_t shmsync__load(const uint64_t *word, int order) { return __atomic_load_n(word, order); }

static uint64_t shmsync__u64(const unsigned char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t shmsync__u32(const unsigned char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static const uint64_t shmsync__no_version = 0;

static uint64_t *shmsync__version_word(const shmsync_link_ *link) { return shmsync__word(link->state, 64); }

static uint64_t *shmsync__generation_word(const shmsync_link_ *link, int index) {
    return shmsync__word(link->state, index ? 192 : 128);
}

static int shmsync__index(uint64_t seq) { return (int)((seq + 1) & 1); }

static uint64_t shmsync__one(int index) { return index ? UINT64_C(1) << 24 : 1; }

#if SHMSYNC_XXHASH
static uint64_t shmsync__hash(const unsigned char *data, uint64_t size) { return XXH3_64bits(data, (size_t)size); }
#endif

/* ------------------------------------------------------------------------------------------------------------ forks */

/* A page that the kernel zeroes in a forked child, however it forks: a look at it costs one load, getpid() a system
 * call. Its first word is a number of this process, taken from the clock, because a process id may be that of the
 * parent in another namespace. */
static uint64_t *shmsync__fork_page;

/* Return the number of this process; in a forked child not that of its parent. */
static uint64_t shmsync__process(void) {
    uint64_t *page = __atomic_load_n(&shmsync__fork_page, __ATOMIC_ACQUIRE); /* pairs with the exchange below */
    return page ? __atomic_load_n(page, __ATOMIC_RELAXED) : (uint64_t)getpid();
}

static void shmsync__notice_forks(void) {
#ifdef SHMSYNC_NO_FORK_PAGE /* as on Linux before 4.14 */
    return;
#endif
    uint64_t *page = __atomic_load_n(&shmsync__fork_page, __ATOMIC_ACQUIRE); /* pairs with the exchange below */
    if (!page) {
        uint64_t *none = NULL;
        void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) return; /* without it, each call asks for the process id */
        if (madvise(memory, 4096, MADV_WIPEONFORK)) {
            munmap(memory, 4096);
            return;
        }
        page = (uint64_t *)memory;
        /* Release: who loads the pointer finds the page mapped. */
        if (!__atomic_compare_exchange_n(&shmsync__fork_page, &none, page, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            munmap(memory, 4096); /* another thread was faster */
            page = none;
        }
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t zero = 0, number = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    /* Relaxed: the first thread wins; the number orders nothing. */
    __atomic_compare_exchange_n(page, &zero, number | 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static bool shmsync__is_inherited(const shmsync *handle) { return handle->process != shmsync__process(); }

/* The same, where a system call would take too long: false says nothing. Relaxed: a process sees its own page. */
static bool shmsync__is_own(const shmsync *handle) {
    const uint64_t *page = __atomic_load_n(&shmsync__fork_page, __ATOMIC_RELAXED);
    return page && __atomic_load_n(page, __ATOMIC_RELAXED) == handle->process;
}

/* ------------------------------------------------------------------------------------------------- opening segments */

static bool shmsync__is_name(const char *name) {
    size_t size = 0;
    for (; name[size]; size++) {
        char c = name[size];
        bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (size == 200 || !(good || c == '.' || c == '_' || c == '-')) return false;
    }
    return size && strcmp(name, ".") && strcmp(name, "..");
}

static const char *const shmsync__state = "_state";
static const char *const shmsync__readers = "_readers";
static const char *const shmsync__data[2] = {"_data_0", "_data_1"};

typedef struct shmsync_path_ {
    char text[256];
} shmsync_path_;

static shmsync_path_ shmsync__path(const shmsync *handle, const char *suffix) {
    shmsync_path_ path;
    strcpy(path.text, SHMSYNC_DIRECTORY);
    strcat(path.text, handle->name);
    strcat(path.text, suffix);
    return path;
}

static int shmsync__error(int number) {
    if (number == ENOENT || number == ENOTDIR) return SHMSYNC_E_NOT_FOUND;
    return number == EACCES || number == EPERM ? SHMSYNC_E_FORBIDDEN : SHMSYNC_E_SYSTEM;
}

/* Open a segment. Not blocking: any user may create a FIFO under a free name. Closed by exec. */
static int shmsync__open(const shmsync *handle, const char *suffix, int flags, int *fd, struct stat *status) {
    shmsync_path_ path = shmsync__path(handle, suffix);
    do {
        *fd = open(path.text, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    } while (*fd < 0 && errno == EINTR);
    if (*fd < 0) return errno == ELOOP || errno == EISDIR ? SHMSYNC_E_LAYOUT : shmsync__error(errno);
    int result = SHMSYNC_OK;
    if (fstat(*fd, status))
        result = SHMSYNC_E_SYSTEM;
    else if (!S_ISREG(status->st_mode))
        result = SHMSYNC_E_LAYOUT;
    else if (!handle->any_owner && status->st_uid && status->st_uid != geteuid() && status->st_uid != handle->owner)
        result = SHMSYNC_E_FORBIDDEN; /* who owns a segment decides what its readers get */
    if (result) close(*fd);
    return result;
}

static int shmsync__mmap(int fd, uint64_t size, int protection, unsigned char **out) {
    void *memory = size ? mmap(NULL, (size_t)size, protection, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (memory == MAP_FAILED) return SHMSYNC_E_SYSTEM;
    *out = (unsigned char *)memory;
    return SHMSYNC_OK;
}

static bool shmsync__is_named(const shmsync *handle, const char *suffix, ino_t inode, dev_t device) {
    struct stat status;
    shmsync_path_ path = shmsync__path(handle, suffix);
    /* An inode that is mapped keeps its number. */
    return !lstat(path.text, &status) && status.st_ino == inode && status.st_dev == device;
}

static const char *shmsync__control(const shmsync_link_ *link) {
    return link->isolated ? shmsync__readers : shmsync__state;
}

static bool shmsync__is_current(const shmsync *handle, const shmsync_link_ *link) {
    return shmsync__is_named(handle, shmsync__control(link), link->state_inode, link->device);
}

/* Whether the incarnation has neither ended nor lost its name. A remover stores CLOSED first and unlinks last: so if a
 * segment does not match the state although this is true afterwards, no removal explains it. */
static bool shmsync__is_live(const shmsync *handle, const shmsync_link_ *link) {
    /* Acquire: pairs with the store of CLOSED; what the remover unlinked before is not taken for damage. */
    return shmsync__load(shmsync__version_word(link), __ATOMIC_ACQUIRE) != SHMSYNC_CLOSED_ &&
           shmsync__is_current(handle, link);
}

/* ------------------------------------------------------------------------------------------------------- attachment */

static void shmsync__link_drop(shmsync_link_ *link) {
    if (!link || --link->refs) return;
    if (link->state) munmap(link->state, SHMSYNC_STATE_SIZE_);
    if (link->table) munmap(link->table, SHMSYNC_SLOTS_AT_ + (size_t)SHMSYNC_SLOT_SIZE_ * link->max_readers);
    free(link);
}

/* Map the state, or the public state of isolated mode, and check every field of its header. */
static int shmsync__map_state(const shmsync *handle, shmsync_link_ *link, bool is_public) {
    struct stat status;
    int fd, result = shmsync__open(handle, is_public ? shmsync__readers : shmsync__state, O_RDONLY, &fd, &status);
    if (result) return result;
    if (status.st_size < SHMSYNC_STATE_SIZE_)
        result = status.st_size ? SHMSYNC_E_DAMAGED : SHMSYNC_E_NOT_PUBLISHED; /* it is being created */
    else
        result = shmsync__mmap(fd, SHMSYNC_STATE_SIZE_, PROT_READ, &link->state);
    close(fd);
    if (result) return result;
    link->state_inode = status.st_ino;
    link->device = status.st_dev;
    /* Acquire: pairs with the store of the magic, which the creator makes last. */
    uint64_t magic = shmsync__load(shmsync__word(link->state, 0), __ATOMIC_ACQUIRE);
    if (!magic) return SHMSYNC_E_NOT_PUBLISHED;
    if (magic != (is_public ? SHMSYNC_PUBLIC_MAGIC_ : SHMSYNC_STATE_MAGIC_)) return SHMSYNC_E_LAYOUT;
    uint32_t layout = shmsync__u32(link->state + 8), word = shmsync__u32(link->state + 12);
    uint32_t mode = shmsync__u32(link->state + 20);
    link->max_readers = shmsync__u32(link->state + 16);
    link->incarnation = shmsync__u64(link->state + 24);
    link->isolated = mode == 1;
    if (layout != SHMSYNC_LAYOUT_ || word != 8 || mode > 1 || (is_public && mode != 1)) return SHMSYNC_E_LAYOUT;
    bool good = link->incarnation && link->max_readers && link->max_readers <= SHMSYNC_MAX_READERS_;
    return good ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

static int shmsync__map_table(const shmsync *handle, shmsync_link_ *link) {
    struct stat status;
    int fd, result = shmsync__open(handle, shmsync__readers, O_RDWR, &fd, &status);
    if (result) return result;
    uint64_t size = SHMSYNC_SLOTS_AT_ + (uint64_t)SHMSYNC_SLOT_SIZE_ * link->max_readers;
    result = (uint64_t)status.st_size < size ? SHMSYNC_E_DAMAGED
                                             : shmsync__mmap(fd, size, PROT_READ | PROT_WRITE, &link->table);
    close(fd);
    if (result) return result;
    link->table_inode = status.st_ino;
    const unsigned char *at = link->table;
    bool good = shmsync__u64(at) == SHMSYNC_READERS_MAGIC_ && shmsync__u32(at + 8) == SHMSYNC_LAYOUT_ &&
                shmsync__u32(at + 12) == link->max_readers && shmsync__u64(at + 16) == link->incarnation;
    return good ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

static ino_t shmsync__state_inode(const shmsync *handle) {
    struct stat status;
    shmsync_path_ path = shmsync__path(handle, shmsync__state);
    return lstat(path.text, &status) ? 0 : status.st_ino;
}

/* Open the incarnation that the name has now. `*again` is set if two incarnations may have been mixed: try again. */
static int shmsync__link_once(const shmsync *handle, shmsync_link_ **out, bool *again) {
    shmsync_link_ *link = (shmsync_link_ *)calloc(1, sizeof *link);
    if (!link) return SHMSYNC_E_SYSTEM;
    link->refs = 1;
    ino_t before = shmsync__state_inode(handle);
    int result = shmsync__map_state(handle, link, false);
    if (result == SHMSYNC_E_FORBIDDEN || (!result && link->isolated)) { /* isolated mode: the state is for its owner */
        int forbidden = result;
        if (link->state) munmap(link->state, SHMSYNC_STATE_SIZE_);
        link->state = NULL;
        result = shmsync__map_state(handle, link, true);
        if (forbidden && result == SHMSYNC_E_LAYOUT) result = forbidden; /* a reader table */
    } else if (!result) {
        SHMSYNC_STEP("attaching");
        result = shmsync__map_table(handle, link);
    }
    *again = result && shmsync__state_inode(handle) != before;
    if (result)
        shmsync__link_drop(link);
    else
        *out = link;
    return result;
}

static int shmsync__link_open(const shmsync *handle, shmsync_link_ **out) {
    for (int attempt = 0; attempt < SHMSYNC_ATTEMPTS_; attempt++) {
        bool again = false;
        int result = shmsync__link_once(handle, out, &again);
        if (again) continue;
        /* Acquire, as in shmsync__is_live. The name is being removed, or its remover has died. */
        if (result || shmsync__load(shmsync__version_word(*out), __ATOMIC_ACQUIRE) != SHMSYNC_CLOSED_) return result;
        shmsync__link_drop(*out);
        *out = NULL;
        return SHMSYNC_E_NOT_FOUND;
    }
    return SHMSYNC_E_BUSY;
}

/* ------------------------------------------------------------------------------------------------------------ slots */

/* Lock one byte for this open file description: the kernel releases it when the last descriptor and the last mapping
 * of the description are gone, however the process ends. Returns 1 if another one holds it. */
static int shmsync__lock(int fd, short kind, uint64_t at) {
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = kind;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)at;
    lock.l_len = 1;
    if (!fcntl(fd, F_OFD_SETLK, &lock)) return 0;
    return errno == EAGAIN || errno == EACCES ? 1 : SHMSYNC_E_SYSTEM;
}

/* Release a slot if nothing needs it. In a forked child it is the parent's, and so are its counts. */
static void shmsync__slot_free(shmsync_slot_ *slot) {
    bool is_own = slot->process == shmsync__process();
    /* Relaxed: only this thread changes the counts. */
    if (slot->refs || (is_own && shmsync__load(&slot->words[0], __ATOMIC_RELAXED) & SHMSYNC_COUNTS_)) return;
    if (is_own) {
        /* Release: pairs with the writer's load of a word; our loads of the payload are over. */
        __atomic_store_n(&slot->words[1], 0, __ATOMIC_RELEASE);
        __atomic_store_n(&slot->words[2], 0, __ATOMIC_RELEASE);
        __atomic_store_n(&slot->words[0], 0, __ATOMIC_RELEASE);
        /* Unlocked explicitly: a child may have a copy of the descriptor. */
        shmsync__lock(slot->fd, F_UNLCK, SHMSYNC_SLOTS_AT_ + (uint64_t)SHMSYNC_SLOT_SIZE_ * slot->number);
    }
    close(slot->fd);
    shmsync__link_drop(slot->link);
    free(slot);
}

static void shmsync__slot_drop(shmsync_slot_ *slot) {
    if (!slot) return;
    slot->refs--;
    shmsync__slot_free(slot);
}

/* Raise the high-water mark to at least `least`, and count the claim even if the mark is high enough. */
static void shmsync__add_claim(const shmsync_link_ *link, uint32_t least) {
    uint64_t *word = shmsync__word(link->table, 64);
    uint64_t now = shmsync__load(word, __ATOMIC_SEQ_CST);
    for (;;) {
        uint64_t mark = (uint32_t)now > least ? (uint32_t)now : least;
        uint64_t next = ((now & ~(uint64_t)UINT32_MAX) + (UINT64_C(1) << 32)) | mark;
        /* Seq_cst: pairs with the writer's exchange that lowers the mark, and precedes our first pin for its scan. A
         * failure means that another claim or the writer was faster. */
        if (__atomic_compare_exchange_n(word, &now, next, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return;
    }
}

static int shmsync__try_slot(shmsync_link_ *link, int fd, uint32_t number, shmsync_slot_ **out) {
    uint64_t at = SHMSYNC_SLOTS_AT_ + (uint64_t)SHMSYNC_SLOT_SIZE_ * number;
    int result = shmsync__lock(fd, F_WRLCK, at);
    if (result) return result;
    shmsync_slot_ *slot = (shmsync_slot_ *)calloc(1, sizeof *slot);
    if (!slot) return SHMSYNC_E_SYSTEM; /* the caller closes the descriptor, and with it the lock */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    slot->refs = 1;
    slot->link = link;
    slot->words = shmsync__word(link->table, at);
    slot->number = number;
    slot->fd = fd;
    slot->process = shmsync__process();
    link->refs++;
    /* Who and when: for messages and tools only. Relaxed: they pair with nothing. */
    __atomic_store_n(&slot->words[3], (uint64_t)getpid(), __ATOMIC_RELAXED);
    __atomic_store_n(&slot->words[4], (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->words[5], 0, __ATOMIC_RELAXED);
    /* What a dead owner left. Seq_cst: before the claim, and so before our first pin. */
    __atomic_store_n(&slot->words[1], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->words[2], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&slot->words[0], 0, __ATOMIC_SEQ_CST);
    shmsync__add_claim(link, number + 1);
    *out = slot;
    return SHMSYNC_OK;
}

/* Take a free slot: some below the mark, at random; then those above; then all. The order is a matter of cost only. */
static int shmsync__take_slot(shmsync_link_ *link, int fd, shmsync_slot_ **out) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t random = ((uint64_t)now.tv_nsec << 20) ^ (uint64_t)getpid() ^ (uint64_t)(uintptr_t)&now;
    /* Relaxed: only a hint. Any reader may write to it, so it is bounded. */
    uint32_t mark = (uint32_t)shmsync__load(shmsync__word(link->table, 64), __ATOMIC_RELAXED);
    if (mark > link->max_readers) mark = link->max_readers;
    int result = 1;
    for (uint32_t probe = 0; result == 1 && probe < SHMSYNC_PROBES_ && probe < mark; probe++) {
        uint32_t low = (uint32_t)((uint64_t)mark * probe / SHMSYNC_PROBES_);
        uint32_t high = (uint32_t)((uint64_t)mark * (probe + 1) / SHMSYNC_PROBES_);
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint32_t number = mark <= SHMSYNC_PROBES_ ? probe : low + (uint32_t)((random >> 33) % (high - low));
        result = shmsync__try_slot(link, fd, number, out);
    }
    for (uint32_t step = 0; result == 1 && step < link->max_readers; step++)
        result = shmsync__try_slot(link, fd, (mark + step) % link->max_readers, out);
    return result == 1 ? SHMSYNC_E_FULL : result;
}

static int shmsync__claim(shmsync *handle) {
    struct stat status;
    /* One open file description for each slot. A try that fails leaves no lock on it. */
    int fd, result = shmsync__open(handle, shmsync__readers, O_RDWR, &fd, &status);
    if (result) return result;
    if (status.st_ino != handle->link->table_inode)
        result = SHMSYNC_E_DAMAGED; /* or a new incarnation: the caller finds out */
    else
        result = shmsync__take_slot(handle->link, fd, &handle->slot);
    if (result)
        close(fd);
    else
        handle->pin = &handle->slot->words[0];
    return result;
}

/* Add the pins and unpins of the fast path to the references of their mapping. Called before these are looked at. */
static void shmsync__settle(shmsync *handle) {
    if (handle->ready.map_) handle->ready.map_->refs += (uint64_t)handle->pins - handle->unpins;
    handle->pins = handle->unpins = 0;
}

/* Leave the fast path, until a pin has checked a version again. */
static void shmsync__forget_ready(shmsync *handle) {
    shmsync__settle(handle);
    handle->ready.version.seq = SHMSYNC_NEVER_;
    handle->ready.map_ = NULL;
}

static void shmsync__leave_slot(shmsync *handle) {
    shmsync_slot_ *slot = handle->slot;
    handle->slot = NULL;
    shmsync__forget_ready(handle);
    shmsync__slot_drop(slot); /* its snapshots keep it, and the last of them unlocks it */
}

/* --------------------------------------------------------------------------------------------------------- mappings */

static void shmsync__handle_drop(shmsync *handle) {
    if (!--handle->refs) free(handle);
}

static void shmsync__map_drop(shmsync_map_ *map) {
    if (!map || --map->refs) return;
    munmap((void *)(uintptr_t)map->base, (size_t)map->length);
    shmsync__handle_drop(map->ready.owner_);
    free(map);
}

/* Hold a shared lock on an inode while it is mapped: the mapping keeps the open file description, and that the lock,
 * also after close. A writer that finds it unlocked may use the inode for another version. Call before the look at
 * EVICTED. Returns 1 if the writer holds it exclusively. */
static int shmsync__lock_inode(int fd) { return shmsync__lock(fd, F_RDLCK, 0); }

static int shmsync__map_data(shmsync *handle, int index, shmsync_map_ **out) {
    struct stat status;
    int fd, result = shmsync__open(handle, shmsync__data[index], O_RDONLY, &fd, &status);
    if (result) return result == SHMSYNC_E_NOT_FOUND ? SHMSYNC_E_DAMAGED : result;
    shmsync_map_ *map = (shmsync_map_ *)calloc(1, sizeof *map);
    unsigned char *memory = NULL;
    if (!map)
        result = SHMSYNC_E_SYSTEM;
    else if (status.st_size < SHMSYNC_PAYLOAD_AT_)
        result = SHMSYNC_E_DAMAGED; /* or it is being created */
    else if (!handle->link->isolated && (result = shmsync__lock_inode(fd)) != 0)
        result = result == 1 ? SHMSYNC_E_DAMAGED : result; /* or the writer is reusing it */
    else
        result = shmsync__mmap(fd, (uint64_t)status.st_size, PROT_READ, &memory);
    close(fd);
    if (result) {
        free(map);
        return result;
    }
    map->refs = 1;
    map->base = memory;
    map->length = (uint64_t)status.st_size;
    map->index = index;
    map->inode = status.st_ino;
    map->ready.owner_ = handle;
    map->ready.map_ = map;
    map->ready.state_ = SHMSYNC_PINNED_;
    handle->refs++;
    *out = map;
    return SHMSYNC_OK;
}

static void shmsync__unmap_index(shmsync *handle, int index) {
    if (handle->ready.map_ == handle->maps[index]) shmsync__forget_ready(handle);
    shmsync__map_drop(handle->maps[index]);
    handle->maps[index] = NULL;
}

/* Where the table of digests begins and ends; nothing if the payload is a single block. False if that overflows. */
static bool shmsync__table_span(uint64_t size, uint64_t *start, uint64_t *end) {
    if (size > UINT64_MAX / 2) return false;
    *start = *end = SHMSYNC_PAYLOAD_AT_ + size;
    if (size > SHMSYNC_BLOCK_) {
        *start = (*end + 63) / 64 * 64;
        *end = *start + 8 * ((size + SHMSYNC_BLOCK_ - 1) / SHMSYNC_BLOCK_);
    }
    return true;
}

/* Check every field of a data header before any is used; the caller compares generation and sequence number. The
 * segment is held, so it does not change. */
static int shmsync__check_header(const shmsync_link_ *link, shmsync_map_ *map) {
    const unsigned char *at = map->base;
    uint64_t size = shmsync__u64(at + 32), start, end;
    if (shmsync__u64(at) != SHMSYNC_DATA_MAGIC_ || shmsync__u64(at + 8) != link->incarnation) return SHMSYNC_E_DAMAGED;
    if (!shmsync__table_span(size, &start, &end) || end > map->length) return SHMSYNC_E_DAMAGED;
#if SHMSYNC_XXHASH
    if (shmsync__hash(at, 56) != shmsync__u64(at + 56)) return SHMSYNC_E_DAMAGED;
#endif
    map->ready.payload = at + SHMSYNC_PAYLOAD_AT_;
    map->ready.size = size;
    map->ready.version.incarnation = link->incarnation;
    map->ready.version.seq = shmsync__u64(at + 24);
    map->ready.codec = shmsync__u32(at + 48);
    map->checksum = shmsync__u64(at + 40);
    return SHMSYNC_OK;
}

/* -------------------------------------------------------------------------------------------------------- handles */

static void shmsync__unlink(shmsync *handle) {
    shmsync__unmap_index(handle, 0);
    shmsync__unmap_index(handle, 1);
    shmsync__leave_slot(handle);
    shmsync__link_drop(handle->link);
    handle->link = NULL;
    handle->version = &shmsync__no_version;
}

static int64_t shmsync__now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int shmsync__ensure_link(shmsync *handle) {
    if (handle->link) return SHMSYNC_OK;
    handle->check_due = shmsync__now(CLOCK_MONOTONIC_COARSE) + 1000000000;
    int result = shmsync__link_open(handle, &handle->link);
    if (!result) handle->version = shmsync__version_word(handle->link);
    return result;
}

SHMSYNC_API int shmsync_attach(shmsync **out, const char *name, const shmsync_options *options) {
    *out = NULL;
    if (!name || !shmsync__is_name(name)) return SHMSYNC_E_INVALID;
    shmsync *handle = (shmsync *)calloc(1, sizeof *handle);
    if (!handle) return SHMSYNC_E_SYSTEM;
    shmsync__notice_forks();
    handle->refs = 1;
    handle->process = shmsync__process();
    handle->version = &shmsync__no_version;
    handle->ready.version.seq = SHMSYNC_NEVER_;
    handle->owner = options ? options->owner : 0;
    handle->any_owner = options && options->any_owner;
    strcpy(handle->name, name);
    *out = handle;
    return SHMSYNC_OK;
}

SHMSYNC_API void shmsync_detach(shmsync *handle) {
    if (!handle || handle->detached) return;
    shmsync__unlink(handle);
    handle->detached = true;
    shmsync__handle_drop(handle);
}

/* Whether the name leads to another incarnation that has a value. Without one, the old is still the newest to read. */
static bool shmsync__is_superseded(const shmsync *handle) {
    shmsync_link_ *other = NULL;
    if (shmsync__is_current(handle, handle->link) || shmsync__link_open(handle, &other)) return false;
    uint64_t seq = shmsync__load(shmsync__version_word(other), __ATOMIC_RELAXED); /* a later pin loads it again */
    shmsync__link_drop(other);
    return seq && seq != SHMSYNC_CLOSED_;
}

static void shmsync__check_superseded(shmsync *handle) {
    handle->check_due = shmsync__now(CLOCK_MONOTONIC_COARSE) + 1000000000;
    if (handle->link && shmsync__is_superseded(handle)) shmsync__unlink(handle);
}

SHMSYNC_API int shmsync_refresh(shmsync *handle) {
    if (shmsync__is_inherited(handle)) return SHMSYNC_E_FORKED;
    shmsync__check_superseded(handle);
    return SHMSYNC_OK;
}

/* ------------------------------------------------------------------------------------------------------------ pins */

static void shmsync__fill(shmsync *handle, shmsync_slot_ *slot, shmsync_map_ *map, shmsync_snapshot *out) {
    map->refs++;
    *out = map->ready;
    out->slot_ = slot;
    if (!slot) return; /* isolated mode has no fast path */
    handle->ready = *out;
    handle->one = shmsync__one(map->index);
}

/* Pin the newest version; return its sequence number. No more than three read-modify-writes, and no loop. */
static uint64_t shmsync__enter(const shmsync_link_ *link, shmsync_slot_ *slot) {
    const uint64_t *version = shmsync__version_word(link);
    uint64_t seq = shmsync__load(version, __ATOMIC_RELAXED); /* a guess that the second load confirms */
    uint64_t one = shmsync__one(shmsync__index(seq));
    SHMSYNC_STEP("loaded");
    /* Seq_cst, both: our pin, then our load of the version; the writer's store of the version, then its load of the
     * pin. So we see its new version, or its scan sees our pin. */
    __atomic_fetch_add(&slot->words[0], one, __ATOMIC_SEQ_CST);
    /* Also acquire: pairs with the publish of `seq`; header and payload are loaded after it. */
    if (shmsync__load(version, __ATOMIC_SEQ_CST) == seq) return seq;
    /* Announced, no scan lets the writer start on either segment. Seq_cst: as above, for both segments. */
    __atomic_fetch_add(&slot->words[0], SHMSYNC_ANNOUNCE_ - one, __ATOMIC_SEQ_CST);
    seq = shmsync__load(version, __ATOMIC_SEQ_CST);
    SHMSYNC_STEP("announced");
    __atomic_fetch_add(&slot->words[0], shmsync__one(shmsync__index(seq)) - SHMSYNC_ANNOUNCE_, __ATOMIC_SEQ_CST);
    return seq;
}

static void shmsync__leave(shmsync_slot_ *slot, int index) {
    /* Release: pairs with the writer's load of the pin word before it writes; our loads of the payload are over. */
    __atomic_fetch_sub(&slot->words[0], shmsync__one(index), __ATOMIC_RELEASE);
}

/* Unpin a snapshot. In a slot that was left to its snapshots, the last one also clears EVICTED, because nobody enters
 * there, and releases the slot. */
static void shmsync__unpin(const shmsync_snapshot *snapshot) {
    shmsync_slot_ *slot = snapshot->slot_;
    if (!slot) return; /* isolated mode */
    shmsync__leave(slot, snapshot->map_->index);
    if (slot == snapshot->owner_->slot) return;
    uint64_t evicted = SHMSYNC_EVICTED_; /* release, as in leave; it fails while other snapshots count */
    __atomic_compare_exchange_n(&slot->words[0], &evicted, 0, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    shmsync__slot_free(slot);
}

static bool shmsync__is_evicted(const shmsync_slot_ *slot) {
    /* Acquire: pairs with the writer's fetch-or. The bit is set before the name or the generation changes, so after a
     * load of either, a clear bit means that this was not changed. */
    return (shmsync__load(&slot->words[0], __ATOMIC_ACQUIRE) & SHMSYNC_EVICTED_) != 0;
}

/* Map the segment of `seq`, which is pinned, unless its generation is mapped; check its header. */
static int shmsync__map_pinned(shmsync *handle, uint64_t seq) {
    int index = shmsync__index(seq), other = 1 - index, result = SHMSYNC_OK;
    uint64_t generations[2];
    /* Acquire: pairs with the writer's store, which follows its fetch-or of EVICTED. */
    generations[0] = shmsync__load(shmsync__generation_word(handle->link, 0), __ATOMIC_ACQUIRE);
    generations[1] = shmsync__load(shmsync__generation_word(handle->link, 1), __ATOMIC_ACQUIRE);
    if (handle->maps[other] && handle->maps[other]->generation != generations[other])
        shmsync__unmap_index(handle, other); /* replaced: nobody reads it through this handle again */
    shmsync_map_ *map = handle->maps[index];
    if (!map || map->generation != generations[index]) {
        SHMSYNC_STEP("opening");
        shmsync__unmap_index(handle, index);
        result = shmsync__map_data(handle, index, &map);
        if (result) return result;
        SHMSYNC_STEP("opened");
        map->generation = generations[index];
        handle->maps[index] = map;
    }
    if (map->ready.version.seq == seq) return SHMSYNC_OK; /* the same version of the same inode: checked before */
    result = shmsync__check_header(handle->link, map);
    bool is_right = shmsync__u64(map->base + 16) == map->generation && map->ready.version.seq == seq;
    if (!result && is_right) return SHMSYNC_OK;
    map->ready.version.seq = 0;
    return SHMSYNC_E_DAMAGED;
}

/* Pin, map and check. Returns 1 if the incarnation has ended: attach again. */
static int shmsync__pin_shared(shmsync *handle, shmsync_snapshot *out) {
    for (int attempt = 0; attempt < SHMSYNC_ATTEMPTS_; attempt++) {
        int result = SHMSYNC_OK;
        if (handle->slot && shmsync__load(&handle->slot->words[0], __ATOMIC_RELAXED) & SHMSYNC_UNUSABLE_ &
                                ~SHMSYNC_EVICTED_)
            shmsync__leave_slot(handle); /* relaxed: only this thread changes the counts */
        if (!handle->slot) result = shmsync__claim(handle);
        if (result) return result == SHMSYNC_E_FULL || shmsync__is_live(handle, handle->link) ? result : 1;
        shmsync_slot_ *slot = handle->slot;
        uint64_t seq = shmsync__enter(handle->link, slot);
        int index = shmsync__index(seq);
        SHMSYNC_STEP("pinned");
        if (!seq || seq == SHMSYNC_CLOSED_) {
            shmsync__leave(slot, index);
            return seq ? 1 : SHMSYNC_E_NOT_PUBLISHED;
        }
        result = shmsync__map_pinned(handle, seq);
        if (!shmsync__is_evicted(slot)) {
            if (!result) {
                shmsync__fill(handle, slot, handle->maps[index], out);
                return SHMSYNC_OK;
            }
            shmsync__unmap_index(handle, index);
            shmsync__leave(slot, index);
            return shmsync__is_live(handle, handle->link) ? result : 1;
        }
        /* The name may have been replaced since: what was mapped may be another inode, or none. */
        shmsync__unmap_index(handle, index);
        shmsync__leave(slot, index);
        uint64_t evicted = SHMSYNC_EVICTED_;
        /* Fails if other snapshots count here: they rely on the bit, and keep the slot. Seq_cst: pairs with the
         * writer's fetch-or, and precedes our next pin. */
        if (!__atomic_compare_exchange_n(&slot->words[0], &evicted, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            shmsync__leave_slot(handle);
    }
    return SHMSYNC_E_BUSY;
}

/* Isolated mode: open what the data name leads to, unless the generation word is that of the mapped inode. */
static int shmsync__map_newest(shmsync *handle) {
    const uint64_t *word = shmsync__generation_word(handle->link, 0);
    shmsync_map_ *map = handle->maps[0];
    /* Acquire: pairs with the store that precedes a rename; if the word is this label, no later rename has happened. */
    if (map && map->generation == shmsync__load(word, __ATOMIC_ACQUIRE)) return SHMSYNC_OK;
    int result = shmsync__map_data(handle, 0, &map);
    if (result) return result;
    if (handle->maps[0] && handle->maps[0]->inode == map->inode) {
        shmsync__map_drop(map); /* the word moves before the name does, and stays ahead if the writer dies in between */
        return SHMSYNC_OK;
    }
    result = shmsync__check_header(handle->link, map); /* complete before it got the name, and never written again */
    if (result) {
        shmsync__map_drop(map);
        return result;
    }
    map->generation = shmsync__u64(map->base + 16);
    shmsync__unmap_index(handle, 0);
    handle->maps[0] = map;
    return SHMSYNC_OK;
}

/* Map the newest version in isolated mode. Returns 1 if the incarnation has ended. */
static int shmsync__newest_isolated(shmsync *handle) {
    /* Acquire, and before the open: the first version may be published right after it. */
    uint64_t before = shmsync__load(shmsync__version_word(handle->link), __ATOMIC_ACQUIRE);
    if (before == SHMSYNC_CLOSED_) return 1;
    int result = shmsync__map_newest(handle);
    if (!result) return SHMSYNC_OK;
    if (!shmsync__is_live(handle, handle->link)) return 1;
    return result == SHMSYNC_E_DAMAGED && !before ? SHMSYNC_E_NOT_PUBLISHED : result;
}

static int shmsync__pin_isolated(shmsync *handle, shmsync_snapshot *out) {
    int result = shmsync__newest_isolated(handle);
    if (!result) shmsync__fill(handle, NULL, handle->maps[0], out);
    return result;
}

SHMSYNC_COLD_ static int shmsync__pin_slowly(shmsync *handle, shmsync_snapshot *out) {
    out->state_ = SHMSYNC_ENDED_;
    if (shmsync__is_inherited(handle)) return SHMSYNC_E_FORKED;
    shmsync__settle(handle);
    if (handle->link && shmsync__now(CLOCK_MONOTONIC_COARSE) >= handle->check_due) shmsync__check_superseded(handle);
    for (int attempt = 0; attempt < SHMSYNC_ATTEMPTS_; attempt++) {
        int result = shmsync__ensure_link(handle);
        if (result) return result;
        result = handle->link->isolated ? shmsync__pin_isolated(handle, out) : shmsync__pin_shared(handle, out);
        if (result != 1) return result;
        shmsync__unlink(handle);
    }
    return SHMSYNC_E_BUSY;
}

SHMSYNC_API int shmsync_pin(shmsync *handle, shmsync_snapshot *out) {
    const uint64_t *version = handle->version;
    /* The fast path: the newest version is mapped and checked. The same loads and addition, and orders, as in
     * shmsync__enter. It needs no look at the generation, which changes only after the version has; and none at EVICTED
     * after the addition, because nothing is opened: an eviction from then on is one of a version that is held. */
    uint64_t seq = shmsync__load(version, __ATOMIC_RELAXED);
    if (seq != handle->ready.version.seq || !shmsync__is_own(handle) || handle->pins >= SHMSYNC_FAST_PINS_)
        return shmsync__pin_slowly(handle, out);
    SHMSYNC_STEP("guessed");
    uint64_t before = __atomic_fetch_add(handle->pin, handle->one, __ATOMIC_SEQ_CST);
    if (shmsync__load(version, __ATOMIC_SEQ_CST) == seq && !(before & SHMSYNC_UNUSABLE_)) {
        handle->pins++;
        *out = handle->ready;
        return SHMSYNC_OK;
    }
    shmsync__leave(handle->slot, shmsync__index(seq));
    return shmsync__pin_slowly(handle, out);
}

SHMSYNC_COLD_ static int shmsync__unpin_slowly(shmsync_snapshot *snapshot) {
    if (snapshot->state_ != SHMSYNC_PINNED_) return SHMSYNC_E_INVALID;
    snapshot->state_ = SHMSYNC_ENDED_;
    shmsync__settle(snapshot->owner_);
    if (!shmsync__is_inherited(snapshot->owner_)) shmsync__unpin(snapshot);
    shmsync__map_drop(snapshot->map_);
    return SHMSYNC_OK;
}

SHMSYNC_API int shmsync_unpin(shmsync_snapshot *snapshot) {
    if (snapshot->state_ != SHMSYNC_PINNED_) return SHMSYNC_E_INVALID;
    shmsync *handle = snapshot->owner_;
    /* The fast path: the handle goes on using the slot and the mapping. */
    if (snapshot->map_ != handle->ready.map_ || snapshot->slot_ != handle->slot || !shmsync__is_own(handle))
        return shmsync__unpin_slowly(snapshot);
    snapshot->state_ = SHMSYNC_ENDED_;
    handle->unpins++;
    /* Release: as in shmsync__leave. */
    __atomic_fetch_sub(handle->pin, shmsync__one(shmsync__index(snapshot->version.seq)), __ATOMIC_RELEASE);
    return SHMSYNC_OK;
}

/* Count a retained snapshot in its slot. Not in its mapping: an inode may be mapped twice. */
static void shmsync__set_hazard(const shmsync_snapshot *snapshot) {
    shmsync_slot_ *slot = snapshot->slot_;
    if (!slot) return; /* isolated mode */
    int index = snapshot->map_->index;
    uint64_t generation = snapshot->map_->generation;
    slot->refs++;
    if (generation > slot->generation[index]) {
        slot->generation[index] = generation;
        slot->retained[index] = 0;
        /* Release: the writer loads the pin word before this word, so if it sees us unpinned, it sees the generation.
         * An older generation that was here has been replaced, and is never written to again. */
        __atomic_store_n(&slot->words[1 + index], generation, __ATOMIC_RELEASE);
    }
    if (generation == slot->generation[index]) slot->retained[index]++;
}

static void shmsync__clear_hazard(const shmsync_snapshot *snapshot) {
    shmsync_slot_ *slot = snapshot->slot_;
    if (!slot) return;
    int index = snapshot->map_->index;
    /* A newer generation in the word is that of other snapshots. */
    if (snapshot->map_->generation == slot->generation[index] && !--slot->retained[index]) {
        slot->generation[index] = 0;
        if (!shmsync__is_inherited(snapshot->owner_)) /* release: pairs with the writer's load; our loads are over */
            __atomic_store_n(&slot->words[1 + index], 0, __ATOMIC_RELEASE);
    }
    shmsync__slot_drop(slot);
}

SHMSYNC_API int shmsync_retain(shmsync_snapshot *snapshot) {
    if (snapshot->state_ != SHMSYNC_PINNED_) return SHMSYNC_E_INVALID;
    if (shmsync__is_inherited(snapshot->owner_)) return SHMSYNC_E_FORKED;
    shmsync__set_hazard(snapshot);
    SHMSYNC_STEP("retaining");
    shmsync__unpin(snapshot);
    snapshot->state_ = SHMSYNC_RETAINED_;
    return SHMSYNC_OK;
}

SHMSYNC_API int shmsync_release(shmsync_snapshot *snapshot) {
    if (snapshot->state_ != SHMSYNC_RETAINED_) return SHMSYNC_E_INVALID;
    snapshot->state_ = SHMSYNC_ENDED_;
    shmsync__settle(snapshot->owner_);
    shmsync__clear_hazard(snapshot);
    shmsync__map_drop(snapshot->map_);
    return SHMSYNC_OK;
}

/* Whether a snapshot is open: a mapping that the handle does not refer to, or that is referred to by others, too. */
static bool shmsync__holds_any(const shmsync *handle) {
    uint64_t own = 1;
    for (int index = 0; index < 2; index++) {
        const shmsync_map_ *map = handle->maps[index];
        if (map && map->refs > 1) return true;
        own += map != NULL;
    }
    return handle->refs > own;
}

SHMSYNC_API int shmsync_seal(shmsync *handle) {
    if (shmsync__is_inherited(handle)) return SHMSYNC_E_FORKED;
    shmsync__settle(handle);
    if (!handle->link || handle->link->isolated || !shmsync__holds_any(handle)) return SHMSYNC_OK;
    for (int index = 0; index < 2; index++) {
        uint64_t generation = shmsync__load(shmsync__generation_word(handle->link, index), __ATOMIC_SEQ_CST);
        uint64_t *word = shmsync__word(handle->link->table, index ? 88 : 80);
        uint64_t now = shmsync__load(word, __ATOMIC_SEQ_CST);
        /* Seq_cst: pairs with the writer's load after its scan; before we unpin. It only grows. */
        while (now < generation &&
               !__atomic_compare_exchange_n(word, &now, generation, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
    }
    return SHMSYNC_OK;
}

SHMSYNC_API int shmsync_verify(const shmsync_snapshot *snapshot) {
    if (snapshot->state_ == SHMSYNC_ENDED_) return SHMSYNC_E_INVALID;
#if SHMSYNC_XXHASH
    uint64_t start, end;
    if (!shmsync__table_span(snapshot->size, &start, &end)) return SHMSYNC_E_DAMAGED;
    const unsigned char *table = snapshot->map_->base + start;
    uint64_t checksum = snapshot->map_->checksum; /* the inode has one version while it is held */
    if (start == end)
        return shmsync__hash(snapshot->payload, snapshot->size) == checksum ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
    if (shmsync__hash(table, end - start) != checksum) return SHMSYNC_E_DAMAGED;
    for (uint64_t at = 0; at < snapshot->size; at += SHMSYNC_BLOCK_, table += 8) {
        uint64_t left = snapshot->size - at, size = left < SHMSYNC_BLOCK_ ? left : (uint64_t)SHMSYNC_BLOCK_;
        if (shmsync__hash(snapshot->payload + at, size) != shmsync__u64(table)) return SHMSYNC_E_DAMAGED;
    }
    return SHMSYNC_OK;
#else
    return SHMSYNC_E_UNSUPPORTED;
#endif
}

/* ---------------------------------------------------------------------------------------------------------- changes */

static bool shmsync__is_digest(const unsigned char *at, uint64_t size, uint64_t digest) {
#if SHMSYNC_XXHASH
    return shmsync__hash(at, size) == digest;
#else
    return at || size || digest; /* bounds are checked all the same */
#endif
}

/* Return where the change log of a version begins, if the segment contains one, or what is left of an older one. */
static const unsigned char *shmsync__log(const shmsync_snapshot *snapshot, uint64_t *room) {
    uint64_t start, end;
    if (!shmsync__table_span(snapshot->size, &start, &end)) return NULL;
    end = (end + 63) / 64 * 64;
    uint64_t length = snapshot->map_->length;
    if (length < SHMSYNC_LOG_HEADER_ || end > length - SHMSYNC_LOG_HEADER_) return NULL;
    *room = length - SHMSYNC_LOG_HEADER_ - end;
    return snapshot->map_->base + end;
}

SHMSYNC_API int shmsync_changes_since(const shmsync_snapshot *snapshot, uint64_t since, shmsync_changes *out) {
    memset(out, 0, sizeof *out);
    uint64_t seq = snapshot->version.seq, room = 0;
    if (snapshot->state_ == SHMSYNC_ENDED_ || since > seq) return SHMSYNC_E_INVALID;
    if (since == seq) return SHMSYNC_OK;
    const unsigned char *log = shmsync__log(snapshot, &room);
    if (!log || shmsync__u64(log) != SHMSYNC_LOG_MAGIC_ || shmsync__u64(log + 8) != seq) return SHMSYNC_E_MISSING;
    uint64_t base = shmsync__u64(log + 24), left = shmsync__u64(log + 32);
    bool good = shmsync__u64(log + 16) == snapshot->map_->checksum && base <= since && left <= room &&
                shmsync__is_digest(log, 40, shmsync__u64(log + 40));
    if (!good) return SHMSYNC_E_MISSING;
    const unsigned char *at = log + SHMSYNC_LOG_HEADER_;
    out->size_ = snapshot->size;
    for (uint64_t version = base + 1; version <= seq; version++) {
        if (left < SHMSYNC_LOG_ENTRY_ || shmsync__u64(at) > left - SHMSYNC_LOG_ENTRY_) return SHMSYNC_E_MISSING;
        uint64_t size = shmsync__u64(at);
        if (version == since + 1) out->at_ = out->entry_end_ = at;
        if (version > since && !shmsync__is_digest(at + SHMSYNC_LOG_ENTRY_, size, shmsync__u64(at + 8)))
            return SHMSYNC_E_MISSING;
        at += SHMSYNC_LOG_ENTRY_ + size;
        left -= SHMSYNC_LOG_ENTRY_ + size;
    }
    out->end_ = at;
    return left ? SHMSYNC_E_MISSING : SHMSYNC_OK;
}

/* Read the head of the next part of an entry. */
static bool shmsync__next_part(shmsync_changes *changes) {
    uint64_t left = (uint64_t)(changes->entry_end_ - changes->at_);
    if (left < SHMSYNC_LOG_PART_) return false;
    left -= SHMSYNC_LOG_PART_;
    changes->row_size_ = shmsync__u64(changes->at_);
    changes->left_ = shmsync__u64(changes->at_ + 8);
    changes->base_ = shmsync__u64(changes->at_ + 16);
    changes->padding_ = changes->row_size_ ? changes->left_ % 2 * 4 : 0;
    changes->at_ += SHMSYNC_LOG_PART_;
    if (changes->left_ > left / (changes->row_size_ ? 4 : 16)) return false;
    return !changes->row_size_ || 4 * changes->left_ + changes->padding_ <= left;
}

SHMSYNC_API int shmsync_next_change(shmsync_changes *changes, uint64_t *start, uint64_t *end) {
    while (!changes->left_) {
        if (changes->at_ == changes->end_) return 0;
        if (changes->at_ == changes->entry_end_) { /* compared with the end of the log before */
            changes->entry_end_ = changes->at_ + SHMSYNC_LOG_ENTRY_ + shmsync__u64(changes->at_);
            changes->at_ += SHMSYNC_LOG_ENTRY_;
        } else if (!shmsync__next_part(changes)) {
            changes->left_ = 0;
            changes->at_ = changes->end_;
            return SHMSYNC_E_DAMAGED;
        }
    }
    bool good = true;
    changes->left_--;
    if (changes->row_size_) {
        good = !__builtin_mul_overflow(changes->row_size_, (uint64_t)shmsync__u32(changes->at_), start) &&
               !__builtin_add_overflow(*start, changes->base_, start) &&
               !__builtin_add_overflow(*start, changes->row_size_, end);
        changes->at_ += 4;
        if (!changes->left_) changes->at_ += changes->padding_;
    } else {
        *start = shmsync__u64(changes->at_);
        *end = shmsync__u64(changes->at_ + 8);
        changes->at_ += 16;
    }
    return good && *start <= *end && *end <= changes->size_ ? 1 : SHMSYNC_E_DAMAGED;
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

/* Return the newest version, and the value of the version word to sleep on. */
static int shmsync__newest(shmsync *handle, shmsync_version *version, uint64_t *word) {
    for (int attempt = 0; attempt < SHMSYNC_ATTEMPTS_; attempt++) {
        int result = shmsync__ensure_link(handle);
        if (result) return result;
        version->incarnation = handle->link->incarnation;
        /* Acquire: pairs with the publish. In isolated mode before the read: a publish from here on changes it. */
        *word = version->seq = shmsync__load(shmsync__version_word(handle->link), __ATOMIC_ACQUIRE);
        if (*word != SHMSYNC_CLOSED_ && handle->link->isolated) {
            result = shmsync__newest_isolated(handle);
            if (!result) version->seq = handle->maps[0]->ready.version.seq;
        } else if (*word == SHMSYNC_CLOSED_) {
            result = 1;
        } else if (!*word) {
            result = SHMSYNC_E_NOT_PUBLISHED;
        }
        if (result != 1) return result;
        shmsync__unlink(handle);
    }
    return SHMSYNC_E_BUSY;
}

static struct timespec shmsync__timespec(int64_t nanoseconds) {
    struct timespec time;
    time.tv_sec = (time_t)(nanoseconds / 1000000000);
    time.tv_nsec = (long)(nanoseconds % 1000000000);
    return time;
}

static int shmsync__pause(int64_t nanoseconds) {
    struct timespec time = shmsync__timespec(nanoseconds);
    return nanosleep(&time, NULL) && errno == EINTR ? SHMSYNC_E_INTERRUPTED : SHMSYNC_OK;
}

/* Sleep while the version word is `word`. May return early. */
static int shmsync__sleep(const shmsync_link_ *link, uint64_t word, int64_t nanoseconds) {
    uint64_t *version = shmsync__version_word(link);
    uint32_t *futex = (uint32_t *)(void *)version;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    futex++; /* the low half */
#endif
    struct timespec time = shmsync__timespec(nanoseconds);
    if (!link->isolated)
        /* Seq_cst, with the load below: the writer stores the version, then loads this word. So it wakes us, or we see
         * the version. The kernel compares once more before it sleeps. */
        __atomic_store_n(shmsync__word(link->table, 72), 1, __ATOMIC_SEQ_CST);
    if (shmsync__load(version, __ATOMIC_SEQ_CST) != word) return SHMSYNC_OK;
    if (!syscall(SYS_futex, futex, 0 /* FUTEX_WAIT, not private */, (uint32_t)word, &time, NULL, 0)) return SHMSYNC_OK;
    if (errno == EINTR) return SHMSYNC_E_INTERRUPTED;
    if (errno == EAGAIN || errno == ETIMEDOUT) return SHMSYNC_OK;
    return shmsync__pause(nanoseconds < 5000000 ? nanoseconds : 5000000); /* a sandbox forbids futexes: poll */
}

SHMSYNC_API int shmsync_wait(shmsync *handle, shmsync_version seen, int64_t timeout_ns, shmsync_version *newest) {
    if (shmsync__is_inherited(handle)) return SHMSYNC_E_FORKED;
    int64_t started = shmsync__now(CLOCK_MONOTONIC), absent_pause = 1000000;
    for (;;) {
        shmsync_version version;
        uint64_t word = 0;
        int result = shmsync__newest(handle, &version, &word);
        if (!result && (version.incarnation != seen.incarnation || version.seq != seen.seq)) {
            if (newest) *newest = version;
            return SHMSYNC_OK;
        }
        if (result && result != SHMSYNC_E_NOT_FOUND && result != SHMSYNC_E_NOT_PUBLISHED) return result;
        int64_t left = timeout_ns < 0 ? INT64_MAX : timeout_ns - (shmsync__now(CLOCK_MONOTONIC) - started);
        if (left <= 0) return SHMSYNC_E_TIMEOUT;
        if (handle->link) {
            /* A second: a writer that died between publish and wake-up wakes nobody, and a name may be removed from
             * outside. Less in isolated mode, where another user can move those who sleep to another futex. */
            int64_t longest = handle->link->isolated ? 50000000 : 1000000000;
            result = shmsync__sleep(handle->link, word, left < longest ? left : longest);
            if (shmsync__now(CLOCK_MONOTONIC_COARSE) >= handle->check_due) shmsync__check_superseded(handle);
        } else {
            result = shmsync__pause(left < absent_pause ? left : absent_pause);
            absent_pause = absent_pause < 10000000 ? 2 * absent_pause : 20000000;
        }
        if (result) return result;
    }
}

/* ---------------------------------------------------------------------------------------------------------- msgpack */

/* Inside a payload, every length is compared with the bytes that are left before it is used. */

static uint64_t shmsync__big_endian(const unsigned char *at, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) value = value << 8 | at[i];
    return value;
}

static int64_t shmsync__signed(uint64_t value, unsigned size) {
    uint64_t sign = UINT64_C(1) << (8 * size - 1);
    return (int64_t)((value ^ sign) - sign);
}

static double shmsync__float(uint64_t bits, unsigned size) {
    double wide;
    float narrow;
    uint32_t low = (uint32_t)bits;
    memcpy(&narrow, &low, sizeof narrow);
    memcpy(&wide, &bits, sizeof wide);
    return size == 4 ? (double)narrow : wide;
}

static void shmsync__set_integer(shmsync_value *out, uint64_t value) {
    out->type = value > (uint64_t)INT64_MAX ? SHMSYNC_UINT : SHMSYNC_INT;
    out->u = value;
    out->i = (int64_t)value;
}

/* A head of msgpack: what follows it, and how many bytes. */
typedef struct shmsync_head_ {
    int type;
    unsigned number; /* bytes of the number that follows: the value, or the size of the data */
    uint64_t size;   /* the size of the data, or the number of elements, if it is in the head */
} shmsync_head_;

static shmsync_head_ shmsync__head(unsigned char byte) {
    static const signed char types[32] = {
        SHMSYNC_NULL,  -1,            SHMSYNC_BOOL,  SHMSYNC_BOOL, SHMSYNC_BYTES, SHMSYNC_BYTES, SHMSYNC_BYTES,
        SHMSYNC_EXT,   SHMSYNC_EXT,   SHMSYNC_EXT,   SHMSYNC_FLOAT, SHMSYNC_FLOAT, SHMSYNC_UINT, SHMSYNC_UINT,
        SHMSYNC_UINT,  SHMSYNC_UINT,  SHMSYNC_INT,   SHMSYNC_INT,  SHMSYNC_INT,   SHMSYNC_INT,   SHMSYNC_EXT,
        SHMSYNC_EXT,   SHMSYNC_EXT,   SHMSYNC_EXT,   SHMSYNC_EXT,  SHMSYNC_STR,   SHMSYNC_STR,   SHMSYNC_STR,
        SHMSYNC_LIST,  SHMSYNC_LIST,  SHMSYNC_MAP,   SHMSYNC_MAP};
    static const unsigned char numbers[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
                                              1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    shmsync_head_ head = {SHMSYNC_INT, 0, byte};
    if (byte >= 0x80 && byte < 0x90)
        head.type = SHMSYNC_MAP, head.size = byte & 15;
    else if (byte >= 0x90 && byte < 0xA0)
        head.type = SHMSYNC_LIST, head.size = byte & 15;
    else if (byte >= 0xA0 && byte < 0xC0)
        head.type = SHMSYNC_STR, head.size = byte & 31;
    else if (byte >= 0xC0 && byte < 0xE0) {
        head.type = types[byte - 0xC0], head.number = numbers[byte - 0xC0], head.size = 0;
        if (byte >= 0xD4 && byte <= 0xD8) head.size = UINT64_C(1) << (byte - 0xD4);
    }
    return head;
}

static int shmsync__refer(shmsync_value *out);

/* Read the value at `at`. Of a list or a map, `*after` is its first element; otherwise what follows the value. */
static int shmsync__msgpack(const shmsync_value *within, const unsigned char *at, shmsync_value *out,
                            const unsigned char **after) {
    const unsigned char *base = within->base_, *end = within->end_;
    uint64_t length = within->length_;
    if (at >= end) return SHMSYNC_E_DAMAGED;
    unsigned char byte = *at++;
    shmsync_head_ head = shmsync__head(byte);
    if (head.type < 0 || head.number > (uint64_t)(end - at)) return SHMSYNC_E_DAMAGED;
    uint64_t number = shmsync__big_endian(at, head.number);
    at += head.number;
    out->type = head.type;
    out->base_ = base;
    out->length_ = length;
    out->end_ = end;
    switch (head.type) {
    case SHMSYNC_NULL:
        break;
    case SHMSYNC_BOOL:
        out->i = byte == 0xC3;
        break;
    case SHMSYNC_FLOAT:
        out->f = shmsync__float(number, head.number);
        break;
    case SHMSYNC_UINT:
        shmsync__set_integer(out, number);
        break;
    case SHMSYNC_INT:
        out->i = head.number ? shmsync__signed(number, head.number) : (int64_t)(signed char)byte;
        out->u = (uint64_t)out->i;
        break;
    case SHMSYNC_EXT:
        if (at >= end) return SHMSYNC_E_DAMAGED;
        out->ext_type = (signed char)*at++;
        /* fall through */
    case SHMSYNC_STR:
    case SHMSYNC_BYTES:
        out->size = head.number ? number : head.size;
        if (out->size > (uint64_t)(end - at)) return SHMSYNC_E_DAMAGED;
        out->data = at;
        at += out->size;
        break;
    default: /* a list or a map; each element takes a byte or more */
        out->size = head.number ? number : head.size;
        if (out->size > (uint64_t)(end - at)) return SHMSYNC_E_DAMAGED;
        out->data = at;
        break;
    }
    *after = at;
    return head.type == SHMSYNC_EXT && out->ext_type == 64 ? shmsync__refer(out) : SHMSYNC_OK;
}

/* The values of a list or a map; 0 of any other value. */
static uint64_t shmsync__children(const shmsync_value *value) {
    return value->type == SHMSYNC_LIST ? value->size : value->type == SHMSYNC_MAP ? 2 * value->size : 0;
}

/* Read the value at `at`, and find what follows all of it. Without recursion: the open values are only counted. */
static int shmsync__msgpack_whole(const shmsync_value *within, const unsigned char *at, shmsync_value *out,
                                  const unsigned char **after) {
    uint32_t depth = within->depth_ + 1;
    if (depth > SHMSYNC_MAX_DEPTH) return SHMSYNC_E_DEPTH;
    const unsigned char *end = within->end_;
    int result = shmsync__msgpack(within, at, out, after);
    out->depth_ = depth;
    uint64_t left = result ? 0 : shmsync__children(out);
    while (left) {
        shmsync_value skipped;
        if (left > (uint64_t)(end - *after)) return SHMSYNC_E_DAMAGED;
        result = shmsync__msgpack(out, *after, &skipped, after);
        if (result) return result;
        left += shmsync__children(&skipped) - 1;
    }
    return result;
}

/* ----------------------------------------------------------------------------------------------------------- frames */

static bool shmsync__is_frame(const shmsync_value *value) { return value->length_ >= 16 && value->base_[0] == 0xC1; }

static int shmsync__frame_buffer(const shmsync_value *frame, uint64_t number, shmsync_value *out) {
    const unsigned char *base = frame->base_;
    if (number >= shmsync__u32(base + 4)) return SHMSYNC_E_DAMAGED;
    uint64_t start = shmsync__u64(base + 16 + 16 * number), size = shmsync__u64(base + 24 + 16 * number);
    if (start > frame->length_ || size > frame->length_ - start) return SHMSYNC_E_DAMAGED;
    out->data = base + start;
    out->size = size;
    return SHMSYNC_OK;
}

/* Set `out` to the body of a frame, which is checked, or to all of a payload that is none. */
static int shmsync__body(shmsync_value *out) {
    out->data = out->base_;
    out->size = out->length_;
    if (!out->length_ || out->base_[0] != 0xC1) return SHMSYNC_OK;
    if (out->length_ < 16) return SHMSYNC_E_DAMAGED;
    uint64_t at = 16 + 16 * (uint64_t)shmsync__u32(out->base_ + 4), size = shmsync__u64(out->base_ + 8);
    if (at > out->length_ || size > out->length_ - at) return SHMSYNC_E_DAMAGED;
    out->data = out->base_ + at;
    out->size = size;
    return SHMSYNC_OK;
}

/* Set `inner` to the list in an extension of type 64, if it is one of shmsync. */
static bool shmsync__ext_list(const shmsync_value *value, shmsync_value *inner, const unsigned char **after) {
    if (value->ext_type != 64 || value->size < 8 || memcmp(value->data, "shmsync", 7)) return false;
    shmsync_value within = *value;
    within.end_ = value->data + value->size;
    inner->depth_ = value->depth_ + 1;
    return !shmsync__msgpack(&within, value->data + 7, inner, after) && inner->type == SHMSYNC_LIST && inner->size;
}

/* Replace an extension that refers to a buffer by what is in the buffer. */
static int shmsync__refer(shmsync_value *out) {
    shmsync_value list, place;
    const unsigned char *at;
    if (!shmsync__is_frame(out) || !shmsync__ext_list(out, &list, &at)) return SHMSYNC_OK;
    const unsigned char *described = at;
    if (*at >= 0xC7 && *at <= 0xD8 && (*at <= 0xC9 || *at >= 0xD4)) return SHMSYNC_OK; /* an extension: a value */
    if (shmsync__msgpack(&list, at, &place, &at) || place.type != SHMSYNC_INT) return SHMSYNC_OK;
    int result = shmsync__frame_buffer(out, place.u, out);
    if (result) return result;
    out->type = list.size == 1 ? SHMSYNC_BYTES : SHMSYNC_ARRAY;
    out->table_ = described;
    out->values_.b = list.end_;
    out->buckets_ = list.size;
    return SHMSYNC_OK;
}

/* --------------------------------------------------------------------------------------------------------- archives */

enum {
    SHMSYNC_K_NULL_ = 1,
    SHMSYNC_K_BOOL_,
    SHMSYNC_K_INT_,
    SHMSYNC_K_UINT_,
    SHMSYNC_K_FLOAT_,
    SHMSYNC_K_STR_,
    SHMSYNC_K_BYTES_,
    SHMSYNC_K_LIST_,
    SHMSYNC_K_MAP_,
    SHMSYNC_K_STRUCT_,
    SHMSYNC_K_ARRAY_,
    SHMSYNC_K_UNION_,
    SHMSYNC_K_CHUNKED_,
    SHMSYNC_K_STR_VIEW_,
    SHMSYNC_K_BYTES_VIEW_
};

/* Return a buffer of `count` items of a column, which comes before its header; NULL if it does not. */
static const unsigned char *shmsync__buffer(const unsigned char *base, uint64_t header, uint64_t at, uint64_t count,
                                            uint64_t width) {
    if (at % 8 || at > header || (width && count > (header - at) / width)) return NULL;
    return base + at;
}

/* Read the header of the column at `at`, which must end before `limit`, and find its buffers. Headers come after all
 * that they refer to, so every chain of columns ends. */
static int shmsync__column(const unsigned char *base, uint64_t limit, uint64_t at, shmsync_column_ *out) {
    if (at % 8 || limit < 64 || at > limit - 64) return SHMSYNC_E_DAMAGED;
    out->kind = shmsync__u32(base + at);
    out->wide = 0;
    out->at = at;
    uint64_t n = out->n = shmsync__u64(base + at + 8);
    for (int i = 0; i < 6; i++) out->word[i] = shmsync__u64(base + at + 16 + 8 * (uint64_t)i);
    if (shmsync__u32(base + at + 4) || n > at) return SHMSYNC_E_DAMAGED;
    const uint64_t *word = out->word;
    out->a = out->b = base;
    switch (out->kind) {
    case SHMSYNC_K_NULL_:
    case SHMSYNC_K_BOOL_:
        out->a = shmsync__buffer(base, at, word[0], n, 1);
        break;
    case SHMSYNC_K_INT_:
    case SHMSYNC_K_UINT_:
    case SHMSYNC_K_FLOAT_:
    case SHMSYNC_K_CHUNKED_:
        out->a = shmsync__buffer(base, at, word[0], n, 8);
        break;
    case SHMSYNC_K_STR_:
    case SHMSYNC_K_BYTES_:
        out->b = shmsync__buffer(base, at, word[1], word[2], 1);
        /* fall through */
    case SHMSYNC_K_LIST_:
    case SHMSYNC_K_MAP_:
        out->wide = word[0] != 0;
        if (out->wide) out->a = shmsync__buffer(base, at, word[0], n + 1, 8);
        break;
    case SHMSYNC_K_STR_VIEW_:
    case SHMSYNC_K_BYTES_VIEW_:
        if (word[2] > word[3] || n > UINT64_MAX / 2) return SHMSYNC_E_DAMAGED;
        out->a = shmsync__buffer(base, at, word[0], 2 * n, 8);
        out->b = shmsync__buffer(base, at, word[1], word[2], 1);
        break;
    case SHMSYNC_K_STRUCT_:
        break;
    case SHMSYNC_K_ARRAY_:
        out->a = shmsync__buffer(base, at, word[4], n, word[5]);
        break;
    case SHMSYNC_K_UNION_:
        out->a = shmsync__buffer(base, at, word[0], n, 1);
        out->b = shmsync__buffer(base, at, word[1], n, 8);
        break;
    default:
        return SHMSYNC_E_DAMAGED;
    }
    return out->a && out->b ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

/* Return where element i of a column of lists, maps, texts or bytes begins and ends; of maps and texts in `limit`. */
static bool shmsync__span(const shmsync_column_ *column, uint64_t i, uint64_t length, uint64_t limit, uint64_t *start,
                          uint64_t *end) {
    if (column->wide) {
        *start = shmsync__u64(column->a + 8 * i);
        *end = shmsync__u64(column->a + 8 * i + 8);
        return *start <= *end && *end <= limit;
    }
    if (length && i + 1 > limit / length) return false;
    *start = length * i;
    *end = length * (i + 1);
    return true;
}

/* Follow unions and chunks to the column that has the element. */
static int shmsync__resolve(const unsigned char *base, shmsync_column_ *column, uint64_t *i) {
    for (int hops = 0; hops < SHMSYNC_MAX_DEPTH; hops++) {
        if (*i >= column->n) return SHMSYNC_E_DAMAGED;
        uint64_t child;
        if (column->kind == SHMSYNC_K_UNION_) {
            uint64_t id = column->a[*i], count = column->word[3];
            const unsigned char *children = shmsync__buffer(base, column->at, column->word[2], count, 8);
            if (!children || id >= count) return SHMSYNC_E_DAMAGED;
            child = shmsync__u64(children + 8 * id);
            *i = shmsync__u64(column->b + 8 * *i);
        } else if (column->kind == SHMSYNC_K_CHUNKED_) {
            child = shmsync__u64(column->a + 8 * *i);
            *i = 0;
        } else {
            return SHMSYNC_OK;
        }
        int result = shmsync__column(base, column->at, child, column);
        if (result) return result;
    }
    return SHMSYNC_E_DEPTH;
}

static int shmsync__list_element(const shmsync_column_ *column, uint64_t i, shmsync_value *out) {
    uint64_t end;
    int result = shmsync__column(out->base_, column->at, column->word[2], &out->values_);
    if (result) return result;
    if (!shmsync__span(column, i, column->word[1], out->values_.n, &out->first_, &end)) return SHMSYNC_E_DAMAGED;
    out->type = SHMSYNC_LIST;
    out->size = end - out->first_;
    return SHMSYNC_OK;
}

static int shmsync__map_element(const shmsync_column_ *column, uint64_t i, shmsync_value *out) {
    uint64_t end, table = column->word[3], buckets = column->word[4];
    int result = shmsync__column(out->base_, column->at, column->word[1], &out->keys_);
    if (!result) result = shmsync__column(out->base_, column->at, column->word[2], &out->values_);
    if (result) return result;
    uint64_t n = out->keys_.n;
    if (!column->wide || n != out->values_.n || !shmsync__span(column, i, 0, n, &out->first_, &end))
        return SHMSYNC_E_DAMAGED;
    out->type = SHMSYNC_MAP;
    out->struct_ = 0;
    out->size = end - out->first_;
    out->table_ = NULL;
    if (!table) return SHMSYNC_OK;
    if (column->n != 1 || out->size != n || !buckets || buckets > UINT64_MAX / 8) return SHMSYNC_E_DAMAGED;
    out->buckets_ = buckets;
    out->table_ = shmsync__buffer(out->base_, column->at, table, buckets + n, 4);
    return out->table_ ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

static int shmsync__struct_element(const shmsync_column_ *column, uint64_t i, shmsync_value *out) {
    int result = shmsync__column(out->base_, column->at, column->word[0], &out->keys_);
    if (result) return result;
    out->type = SHMSYNC_MAP;
    out->struct_ = 1;
    out->size = out->keys_.n;
    out->first_ = i;
    out->values_.at = column->at; /* the limit of the fields */
    out->table_ = shmsync__buffer(out->base_, column->at, column->word[1], out->size, 8);
    return out->table_ ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

static int shmsync__array_element(const shmsync_column_ *column, uint64_t i, shmsync_value *out) {
    const uint64_t *word = column->word;
    out->type = SHMSYNC_ARRAY;
    out->size = word[5];
    out->data = column->a + word[5] * i;
    out->table_ = NULL;
    out->keys_ = *column;
    out->keys_.a = shmsync__buffer(out->base_, column->at, word[0], word[1], 1);
    out->keys_.b = word[3] < UINT32_MAX ? shmsync__buffer(out->base_, column->at, word[2], word[3] + 1, 8) : NULL;
    return out->keys_.a && out->keys_.b ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

/* Return element i of a column. Texts and numbers first: they are most. */
static int shmsync__element(const shmsync_value *within, const shmsync_column_ *of, uint64_t i, shmsync_value *out) {
    const unsigned char *base = within->base_;
    uint64_t length = within->length_, start, end;
    uint32_t depth = within->depth_ + 1;
    if (depth > SHMSYNC_MAX_DEPTH) return SHMSYNC_E_DEPTH;
    if (i >= of->n) return SHMSYNC_E_DAMAGED;
    out->base_ = base;
    out->length_ = length;
    out->end_ = NULL;
    out->depth_ = depth;
    switch (of->kind) {
    case SHMSYNC_K_NULL_:
        out->type = SHMSYNC_NULL;
        return SHMSYNC_OK;
    case SHMSYNC_K_BOOL_:
        out->type = SHMSYNC_BOOL;
        out->i = of->a[i] != 0;
        return SHMSYNC_OK;
    case SHMSYNC_K_INT_:
        out->type = SHMSYNC_INT;
        out->u = shmsync__u64(of->a + 8 * i);
        out->i = (int64_t)out->u;
        return SHMSYNC_OK;
    case SHMSYNC_K_UINT_:
        shmsync__set_integer(out, shmsync__u64(of->a + 8 * i));
        return SHMSYNC_OK;
    case SHMSYNC_K_FLOAT_:
        out->type = SHMSYNC_FLOAT;
        memcpy(&out->f, of->a + 8 * i, 8);
        return SHMSYNC_OK;
    case SHMSYNC_K_STR_:
    case SHMSYNC_K_BYTES_:
        out->type = of->kind == SHMSYNC_K_STR_ ? SHMSYNC_STR : SHMSYNC_BYTES;
        if (!shmsync__span(of, i, of->wide ? 0 : of->word[2] / of->n, of->word[2], &start, &end))
            return SHMSYNC_E_DAMAGED;
        out->data = of->b + start;
        out->size = end - start;
        return SHMSYNC_OK;
    case SHMSYNC_K_STR_VIEW_:
    case SHMSYNC_K_BYTES_VIEW_:
        out->type = of->kind == SHMSYNC_K_STR_VIEW_ ? SHMSYNC_STR : SHMSYNC_BYTES;
        start = shmsync__u64(of->a + 16 * i);
        end = shmsync__u64(of->a + 16 * i + 8);
        if (start > end || end > of->word[2]) return SHMSYNC_E_DAMAGED;
        out->data = of->b + start;
        out->size = end - start;
        return SHMSYNC_OK;
    default:
        break;
    }
    shmsync_column_ column = *of; /* `of` may be a part of `out` */
    if (column.kind == SHMSYNC_K_LIST_) return shmsync__list_element(&column, i, out);
    if (column.kind == SHMSYNC_K_MAP_) return shmsync__map_element(&column, i, out);
    if (column.kind == SHMSYNC_K_STRUCT_) return shmsync__struct_element(&column, i, out);
    if (column.kind == SHMSYNC_K_ARRAY_) return shmsync__array_element(&column, i, out);
    int result = shmsync__resolve(base, &column, &i);
    if (result) return result;
    shmsync_value inside;
    inside.base_ = base;
    inside.length_ = length;
    inside.depth_ = depth - 1;
    return shmsync__element(&inside, &column, i, out); /* once: it is neither a union nor chunked now */
}

static int shmsync__archive(shmsync_value *out) {
    const unsigned char *base = out->base_;
    uint64_t size = out->length_;
    if (size < 40 || shmsync__u64(base) != SHMSYNC_ARCHIVE_MAGIC_) return SHMSYNC_E_DAMAGED;
    const unsigned char *trailer = base + size - 32;
    if (shmsync__u64(trailer + 24) != SHMSYNC_ARCHIVE_MAGIC_ || shmsync__u64(trailer + 16) != size)
        return SHMSYNC_E_DAMAGED;
    if (shmsync__u32(trailer + 8) != 1) return SHMSYNC_E_LAYOUT;
    shmsync_column_ root;
    int result = shmsync__column(base, size - 32, shmsync__u64(trailer), &root);
    if (result) return result;
    if (root.n != 1) return SHMSYNC_E_DAMAGED;
    shmsync_value within = *out;
    return shmsync__element(&within, &root, 0, out);
}

/* ----------------------------------------------------------------------------------------------------------- values */

SHMSYNC_API int shmsync_parse_bytes(uint32_t codec, const void *payload, uint64_t size, shmsync_value *out) {
    memset(out, 0, sizeof *out);
    if (!payload) return SHMSYNC_E_INVALID;
    out->base_ = (const unsigned char *)payload;
    out->length_ = size;
    const unsigned char *after;
    int result;
    switch (codec) {
    case SHMSYNC_CODEC_MSGPACK:
    case SHMSYNC_CODEC_MSGPACK_EXT: {
        result = shmsync__body(out);
        if (result) return result;
        shmsync_value within = *out;
        within.end_ = out->data + out->size;
        return shmsync__msgpack(&within, out->data, out, &after);
    }
    case SHMSYNC_CODEC_RAW:
        out->type = SHMSYNC_BYTES;
        out->data = out->base_;
        out->size = size;
        return SHMSYNC_OK;
    case SHMSYNC_CODEC_ARCHIVE:
        return shmsync__archive(out);
    case SHMSYNC_CODEC_ARROW:
        out->type = SHMSYNC_BYTES;
        result = shmsync__body(out);
        return result || !shmsync__is_frame(out) ? SHMSYNC_E_DAMAGED : shmsync__frame_buffer(out, 0, out);
    default:
        return SHMSYNC_E_UNSUPPORTED;
    }
}

SHMSYNC_API int shmsync_parse(const shmsync_snapshot *snapshot, shmsync_value *out) {
    if (snapshot->state_ == SHMSYNC_ENDED_) return SHMSYNC_E_INVALID;
    return shmsync_parse_bytes(snapshot->codec, snapshot->payload, snapshot->size, out);
}

SHMSYNC_API int shmsync_at(const shmsync_value *list, uint64_t index, shmsync_value *out) {
    if (list->type != SHMSYNC_LIST) return SHMSYNC_E_TYPE;
    if (index >= list->size) return SHMSYNC_E_MISSING;
    if (!list->end_) return shmsync__element(list, &list->values_, list->first_ + index, out);
    const unsigned char *at = list->data;
    shmsync_value within = *list;
    int result = SHMSYNC_OK;
    for (uint64_t i = 0; !result && i <= index; i++) result = shmsync__msgpack_whole(&within, at, out, &at);
    return result;
}

SHMSYNC_API int shmsync_iterate(const shmsync_value *container, shmsync_iter *out) {
    if (container->type != SHMSYNC_LIST && container->type != SHMSYNC_MAP) return SHMSYNC_E_TYPE;
    out->of = container;
    out->next_ = 0;
    out->at_ = container->data;
    return SHMSYNC_OK;
}

/* Return the value of entry `number` of a map in an archive. */
static int shmsync__entry_value(const shmsync_value *map, uint64_t number, shmsync_value *out) {
    if (!map->struct_) return shmsync__element(map, &map->values_, map->first_ + number, out);
    shmsync_column_ field;
    uint64_t i = map->first_;
    int result = shmsync__column(map->base_, map->values_.at, shmsync__u64(map->table_ + 8 * number), &field);
    return result ? result : shmsync__element(map, &field, i, out);
}

static int shmsync__entry_key(const shmsync_value *map, uint64_t number, shmsync_value *out) {
    return shmsync__element(map, &map->keys_, number + (map->struct_ ? 0 : map->first_), out);
}

SHMSYNC_API int shmsync_next(shmsync_iter *iter, shmsync_value *key, shmsync_value *value) {
    const shmsync_value *of = iter->of;
    if (iter->next_ >= of->size) return 0;
    shmsync_value unused;
    bool is_map = of->type == SHMSYNC_MAP;
    int result = SHMSYNC_OK;
    key = key ? key : &unused;
    if (of->end_) {
        if (is_map) result = shmsync__msgpack_whole(of, iter->at_, key, &iter->at_);
        if (!result) result = shmsync__msgpack_whole(of, iter->at_, value, &iter->at_);
    } else if (is_map) {
        result = shmsync__entry_key(of, iter->next_, key);
        if (!result) result = shmsync__entry_value(of, iter->next_, value);
    } else {
        result = shmsync__element(of, &of->values_, of->first_ + iter->next_, value);
    }
    iter->next_++;
    return result ? result : 1;
}

/* ---------------------------------------------------------------------------------------------------------- look-up */

/* A key to find: a text, or an integer that is `u`, or if it is negative, `i`. */
typedef struct shmsync_key_ {
    bool is_text;
    int64_t i;
    uint64_t u;
    const unsigned char *data;
    uint64_t size;
} shmsync_key_;

static bool shmsync__is_negative(const shmsync_key_ *key) { return !key->is_text && key->i < 0; }

/* Whether a float is exactly an integer. NaN equals nothing. */
static bool shmsync__float_equals(double f, const shmsync_key_ *key) {
    if (shmsync__is_negative(key))
        return f >= -9223372036854775808.0 && f < 0 && (double)(int64_t)f == f && (int64_t)f == key->i;
    return f >= 0 && f < 18446744073709551616.0 && (double)(uint64_t)f == f && (uint64_t)f == key->u;
}

static bool shmsync__equals(const shmsync_value *value, const shmsync_key_ *key) {
    if (key->is_text)
        return value->type == SHMSYNC_STR && value->size == key->size &&
               (!key->size || !memcmp(value->data, key->data, (size_t)key->size));
    switch (value->type) {
    case SHMSYNC_BOOL:
        return key->i >= 0 && (uint64_t)value->i == key->u;
    case SHMSYNC_INT:
        return shmsync__is_negative(key) ? value->i == key->i : value->i >= 0 && value->u == key->u;
    case SHMSYNC_UINT:
        return !shmsync__is_negative(key) && value->u == key->u;
    case SHMSYNC_FLOAT:
        return shmsync__float_equals(value->f, key);
    default:
        return false;
    }
}

/* Compare all keys in order. */
static int shmsync__find_in_order(const shmsync_value *map, const shmsync_key_ *key, shmsync_value *out) {
    shmsync_value within = *map, found; /* `out` may be `map` */
    const unsigned char *at = map->data;
    int result = SHMSYNC_OK;
    for (uint64_t number = 0; number < within.size; number++) {
        result = within.end_ ? shmsync__msgpack_whole(&within, at, &found, &at)
                             : shmsync__entry_key(&within, number, &found);
        if (result) return result;
        bool is_found = shmsync__equals(&found, key);
        if (is_found && !within.end_) return shmsync__entry_value(&within, number, out);
        if (within.end_) result = shmsync__msgpack_whole(&within, at, is_found ? out : &found, &at);
        if (is_found || result) return result;
    }
    return SHMSYNC_E_MISSING;
}

/* The remainder of an integer key, never negative: C's has the sign of the dividend. */
static uint64_t shmsync__integer_bucket(const shmsync_key_ *key, uint64_t buckets) {
    if (!shmsync__is_negative(key)) {
        if (!((key->u | buckets) >> 32)) return (uint32_t)key->u % (uint32_t)buckets; /* half the time of 64 bits */
        return key->u % buckets;
    }
    uint64_t rest = (0 - key->u) % buckets; /* of the absolute value */
    return rest ? buckets - rest : 0;
}

#if SHMSYNC_XXHASH
/* The hash of a key in the shortest form of msgpack, for columns of mixed keys; of a text alone if `bare`. */
static uint64_t shmsync__key_hash(const shmsync_key_ *key, uint64_t seed, bool bare) {
    unsigned char head[9];
    unsigned size = 0; /* of the number in the head */
    uint64_t number = key->is_text ? key->size : key->u;
    if (key->is_text && bare) return XXH3_64bits_withSeed(key->data, (size_t)key->size, seed);
    if (key->is_text) {
        head[0] = number < 32 ? (unsigned char)(0xA0 | number) : number < 256 ? 0xD9 : number < 65536 ? 0xDA : 0xDB;
        size = number < 32 ? 0 : number < 256 ? 1 : number < 65536 ? 2 : 4;
    } else if (shmsync__is_negative(key)) {
        int64_t i = key->i;
        size = i >= -32 ? 0 : i >= INT8_MIN ? 1 : i >= INT16_MIN ? 2 : i >= INT32_MIN ? 4 : 8;
        head[0] = size == 0 ? (unsigned char)i : size == 1 ? 0xD0 : size == 2 ? 0xD1 : size == 4 ? 0xD2 : 0xD3;
    } else {
        size = number < 128 ? 0 : number < 256 ? 1 : number < 65536 ? 2 : number <= UINT32_MAX ? 4 : 8;
        head[0] = size == 0 ? (unsigned char)number : size == 1 ? 0xCC : size == 2 ? 0xCD : size == 4 ? 0xCE : 0xCF;
    }
    for (unsigned i = 0; i < size; i++) head[1 + i] = (unsigned char)(number >> 8 * (size - 1 - i));
    XXH3_state_t state;
    XXH3_INITSTATE(&state); /* reset compares it with the seed */
    XXH3_64bits_reset_withSeed(&state, seed);
    XXH3_64bits_update(&state, head, 1 + size);
    if (key->is_text) XXH3_64bits_update(&state, key->data, (size_t)key->size);
    return XXH3_64bits_digest(&state);
}
#endif

/* Whether key `entry` is the one. Numbers of one kind are compared in place. */
static int shmsync__is_key(const shmsync_value *map, uint64_t entry, const shmsync_key_ *key) {
    const shmsync_column_ *keys = &map->keys_;
    if (keys->kind == SHMSYNC_K_INT_ || keys->kind == SHMSYNC_K_UINT_)
        return shmsync__u64(keys->a + 8 * entry) == key->u;
    shmsync_value found;
    int result = shmsync__element(map, keys, entry, &found);
    return result ? result : shmsync__equals(&found, key);
}

static int shmsync__find_by_hash(const shmsync_value *map, const shmsync_key_ *key, uint64_t bucket,
                                 shmsync_value *out) {
    const unsigned char *heads = map->table_, *links = heads + 4 * map->buckets_;
    uint64_t n = map->keys_.n, link = shmsync__u32(heads + 4 * bucket);
    while (link) {
        if (link > n) return SHMSYNC_E_DAMAGED;
        int found = shmsync__is_key(map, link - 1, key);
        if (found < 0) return found;
        if (found) return shmsync__element(map, &map->values_, link - 1, out);
        uint64_t following = shmsync__u32(links + 4 * (link - 1));
        if (following >= link) return SHMSYNC_E_DAMAGED; /* they decrease, so there is no cycle */
        link = following;
    }
    return SHMSYNC_E_MISSING;
}

static int shmsync__find(const shmsync_value *map, const shmsync_key_ *key, shmsync_value *out) {
    if (map->type != SHMSYNC_MAP) return SHMSYNC_E_TYPE;
    if (map->end_ || map->struct_ || !map->table_) return shmsync__find_in_order(map, key, out);
    uint32_t kind = map->keys_.kind;
    uint64_t buckets = map->buckets_;
    if (kind == SHMSYNC_K_INT_ || kind == SHMSYNC_K_UINT_) {
        bool is_outside = kind == SHMSYNC_K_INT_ ? !shmsync__is_negative(key) && key->u > (uint64_t)INT64_MAX
                                                 : shmsync__is_negative(key);
        if (key->is_text || is_outside) return SHMSYNC_E_MISSING;
        return shmsync__find_by_hash(map, key, shmsync__integer_bucket(key, buckets), out);
    }
#if SHMSYNC_XXHASH
    bool is_text = kind == SHMSYNC_K_STR_ || kind == SHMSYNC_K_STR_VIEW_;
    if (kind == SHMSYNC_K_BYTES_ || kind == SHMSYNC_K_BYTES_VIEW_ || (is_text && !key->is_text))
        return SHMSYNC_E_MISSING;
    uint64_t bucket = shmsync__key_hash(key, buckets, is_text) % buckets;
    return shmsync__find_by_hash(map, key, bucket, out);
#else
    return shmsync__find_in_order(map, key, out);
#endif
}

SHMSYNC_API int shmsync_find_int(const shmsync_value *map, int64_t key, shmsync_value *out) {
    shmsync_key_ found = {false, key, (uint64_t)key, NULL, 0};
    return shmsync__find(map, &found, out);
}

SHMSYNC_API int shmsync_find_uint(const shmsync_value *map, uint64_t key, shmsync_value *out) {
    shmsync_key_ found = {false, key > (uint64_t)INT64_MAX ? INT64_MAX : (int64_t)key, key, NULL, 0};
    return shmsync__find(map, &found, out);
}

SHMSYNC_API int shmsync_find_str(const shmsync_value *map, const char *key, size_t size, shmsync_value *out) {
    shmsync_key_ found = {true, 0, 0, (const unsigned char *)key, size};
    return shmsync__find(map, &found, out);
}

/* ---------------------------------------------------------------------------------------------- arrays, extensions */

static int shmsync__vector(const shmsync_value *list, uint32_t kind, const void **out) {
    if (list->type != SHMSYNC_LIST || list->end_ || list->values_.kind != kind) return SHMSYNC_E_TYPE;
    *out = list->values_.a + 8 * list->first_;
    return (uintptr_t)*out % 8 ? SHMSYNC_E_INVALID : SHMSYNC_OK;
}

SHMSYNC_API int shmsync_ints(const shmsync_value *list, const int64_t **out) {
    const void *found = NULL;
    int result = shmsync__vector(list, SHMSYNC_K_INT_, &found);
    *out = (const int64_t *)found;
    return result;
}

SHMSYNC_API int shmsync_floats(const shmsync_value *list, const double **out) {
    const void *found = NULL;
    int result = shmsync__vector(list, SHMSYNC_K_FLOAT_, &found);
    *out = (const double *)found;
    return result;
}

/* Read dtype, item size, order and shape after the buffer's number in an extension. */
static int shmsync__described(const shmsync_value *value, shmsync_array *out) {
    shmsync_value within = *value, found;
    const unsigned char *at = value->table_;
    within.end_ = value->values_.b;
    within.depth_ = 0;
    if (value->buckets_ < 4) return SHMSYNC_E_DAMAGED;
    if (value->buckets_ - 4 > SHMSYNC_MAX_DIMS) return SHMSYNC_E_UNSUPPORTED;
    out->ndim = (uint32_t)(value->buckets_ - 4);
    for (uint64_t i = 0; i < value->buckets_; i++) {
        if (shmsync__msgpack_whole(&within, at, &found, &at)) return SHMSYNC_E_DAMAGED;
        bool is_text = i == 1 || i == 3;
        if (is_text ? found.type != SHMSYNC_STR : found.type != SHMSYNC_INT || found.i < 0) return SHMSYNC_E_DAMAGED;
        if (i == 1) {
            out->dtype = (const char *)found.data;
            out->dtype_size = found.size;
        } else if (i == 2) {
            out->itemsize = found.u;
        } else if (i == 3) {
            out->order = found.size == 1 ? (char)found.data[0] : '?';
        } else if (i > 3) {
            out->shape[i - 4] = found.u;
        }
    }
    return out->order == 'C' || out->order == 'F' ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

SHMSYNC_API int shmsync_array_of(const shmsync_value *value, shmsync_array *out) {
    if (value->type != SHMSYNC_ARRAY) return SHMSYNC_E_TYPE;
    memset(out, 0, sizeof *out);
    out->data = value->data;
    out->size = value->size;
    if (value->table_) {
        int result = shmsync__described(value, out);
        if (result) return result;
    } else {
        const shmsync_column_ *column = &value->keys_;
        if (column->word[3] > SHMSYNC_MAX_DIMS) return SHMSYNC_E_UNSUPPORTED;
        out->dtype = (const char *)column->a;
        out->dtype_size = column->word[1];
        out->order = 'C';
        out->ndim = (uint32_t)column->word[3];
        out->itemsize = shmsync__u64(column->b);
        for (uint32_t i = 0; i < out->ndim; i++) out->shape[i] = shmsync__u64(column->b + 8 + 8 * (uint64_t)i);
    }
    uint64_t count = 1;
    bool is_empty = false, is_large = false;
    for (uint32_t i = 0; i < out->ndim; i++) {
        is_empty |= out->shape[i] == 0;
        is_large |= __builtin_mul_overflow(count, out->shape[i], &count);
    }
    if (is_large && !is_empty) return SHMSYNC_E_DAMAGED;
    count = is_empty ? 0 : count;
    uint64_t size;
    bool good = !__builtin_mul_overflow(count, out->itemsize, &size) && size == out->size;
    return good ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

SHMSYNC_API int shmsync_ext_of(const shmsync_value *value, shmsync_value *out) {
    const unsigned char *after;
    if (value->type != SHMSYNC_EXT || value->ext_type != 64) return SHMSYNC_E_TYPE;
    if (value->depth_ >= SHMSYNC_MAX_DEPTH) return SHMSYNC_E_DEPTH;
    memset(out, 0, sizeof *out);
    return shmsync__ext_list(value, out, &after) ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

SHMSYNC_API int shmsync_timestamp_of(const shmsync_value *value, int64_t *seconds, uint32_t *nanoseconds) {
    if (value->type != SHMSYNC_EXT || value->ext_type != -1) return SHMSYNC_E_TYPE;
    const unsigned char *at = value->data;
    if (value->size != 4 && value->size != 8 && value->size != 12) return SHMSYNC_E_DAMAGED;
    uint64_t first = shmsync__big_endian(at, value->size == 8 ? 8 : 4);
    *nanoseconds = value->size == 4 ? 0 : (uint32_t)(value->size == 8 ? first >> 34 : first);
    *seconds = (int64_t)(value->size == 4 ? first : first & ((UINT64_C(1) << 34) - 1));
    if (value->size == 12) *seconds = shmsync__signed(shmsync__big_endian(at + 4, 8), 8);
    return *nanoseconds < 1000000000 ? SHMSYNC_OK : SHMSYNC_E_DAMAGED;
}

SHMSYNC_API bool shmsync_has_xxhash(void) { return SHMSYNC_XXHASH; }

SHMSYNC_API const char *shmsync_strerror(int result) {
    switch (result) {
    case SHMSYNC_OK: return "success";
    case SHMSYNC_E_NOT_FOUND: return "no process has published under this name";
    case SHMSYNC_E_NOT_PUBLISHED: return "the name exists, but no value is published yet";
    case SHMSYNC_E_LAYOUT: return "another layout version or byte order, or a file of another program";
    case SHMSYNC_E_DAMAGED: return "a segment or its payload is damaged; publish the value again";
    case SHMSYNC_E_FORBIDDEN: return "no permission, or the segments belong to a user that is not trusted";
    case SHMSYNC_E_FULL: return "live readers hold all reader slots";
    case SHMSYNC_E_TIMEOUT: return "no other version within the timeout";
    case SHMSYNC_E_BUSY: return "the writer was faster many times in a row; call again";
    case SHMSYNC_E_FORKED: return "the handle was inherited by a fork; attach in the child";
    case SHMSYNC_E_INVALID: return "invalid argument";
    case SHMSYNC_E_SYSTEM: return "a system call failed; see errno";
    case SHMSYNC_E_MISSING: return "no such key or index";
    case SHMSYNC_E_TYPE: return "the value is of another type";
    case SHMSYNC_E_UNSUPPORTED: return "the codec is not supported here, or the call needs xxhash.h";
    case SHMSYNC_E_DEPTH: return "the value is nested too deeply";
    case SHMSYNC_E_INTERRUPTED: return "interrupted by a signal";
    default: return "unknown result";
    }
}

#ifdef __cplusplus
}
#endif
#endif /* SHMSYNC_IMPLEMENTATION */
