/* Walk damaged payloads: fuzz CODEC FILE SEED ROUNDS. Each round changes some bytes of the payload, or cuts it off, in
 * memory of exactly its size, so that a sanitizer finds every access beyond it. Prints how many rounds found damage. */

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <stdio.h>

static uint64_t state;
static volatile uint64_t sink;

static uint64_t random_below(uint64_t limit) {
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (state >> 33) % (limit ? limit : 1);
}

static void touch(const unsigned char *data, uint64_t size) {
    for (uint64_t i = 0; i < size; i++) sink += data[i];
}

/* Look at all of a value; `left` bounds the work, because columns of nothing may claim any number of elements. */
static int walk(const shmsync_value *value, uint64_t *left) {
    shmsync_value key, child;
    shmsync_array array;
    shmsync_iter iter;
    const int64_t *ints;
    const double *floats;
    int64_t seconds;
    uint32_t nanoseconds;
    int result = SHMSYNC_OK;
    if (!*left) return SHMSYNC_OK;
    --*left;
    switch (value->type) {
    case SHMSYNC_STR:
    case SHMSYNC_BYTES:
        touch(value->data, value->size);
        break;
    case SHMSYNC_EXT:
        touch(value->data, value->size);
        shmsync_timestamp_of(value, &seconds, &nanoseconds);
        if (!shmsync_ext_of(value, &child)) result = walk(&child, left);
        break;
    case SHMSYNC_ARRAY:
        result = shmsync_array_of(value, &array);
        if (!result) touch((const unsigned char *)array.dtype, array.dtype_size), touch(array.data, array.size);
        break;
    case SHMSYNC_LIST:
    case SHMSYNC_MAP:
        if (!shmsync_ints(value, &ints)) touch((const unsigned char *)ints, 8 * value->size);
        if (!shmsync_floats(value, &floats)) touch((const unsigned char *)floats, 8 * value->size);
        for (int64_t number = -3; number < 3; number++) {
            shmsync_find_int(value, number * 17, &child);
            shmsync_at(value, (uint64_t)number, &child);
        }
        shmsync_find_str(value, "key 7", 5, &child);
        result = shmsync_iterate(value, &iter);
        while (*left && (result = shmsync_next(&iter, &key, &child)) > 0) {
            if (value->type == SHMSYNC_MAP && (result = walk(&key, left)) < 0) break;
            if ((result = walk(&child, left)) < 0) break;
        }
        break;
    default:
        break;
    }
    return result;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    FILE *file = fopen(arguments[2], "rb");
    static unsigned char original[1 << 20];
    size_t size = file ? fread(original, 1, sizeof original, file) : 0;
    if (file) fclose(file);
    state = strtoull(arguments[3], NULL, 10);
    uint64_t rounds = strtoull(arguments[4], NULL, 10), damaged = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        size_t kept = size && random_below(4) == 0 ? (size_t)random_below(size) : size;
        unsigned char *payload = (unsigned char *)malloc(kept ? kept : 1);
        memcpy(payload, original, kept);
        for (uint64_t change = random_below(4); round && kept && change--;) {
            size_t at = (size_t)random_below(kept);
            payload[at] = random_below(2) ? (unsigned char)random_below(256) : (unsigned char)(payload[at] ^ (1 << random_below(8)));
        }
        shmsync_value root;
        uint64_t left = 20000;
        int result = shmsync_parse_bytes((uint32_t)strtoul(arguments[1], NULL, 10), payload, kept, &root);
        if (!result) result = walk(&root, &left);
        damaged += result < 0;
        free(payload);
    }
    printf("%llu\n", (unsigned long long)damaged);
    return 0;
}
