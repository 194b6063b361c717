/* Print the newest value of a name as JSON-like text.
 *
 *     cc -O2 -I"$(python -m shmsync --include)" shmcat.c -o shmcat
 *     ./shmcat NAME              print the newest value
 *     ./shmcat --follow NAME     go on with every newer one, until it is interrupted
 *
 * Bytes, extensions and arrays, which JSON does not have, are printed as objects with the key "$bytes", "$ext" or
 * "$array"; keys that are no strings as they are. Exit status: 0; 1 for an error; 2 for invalid usage.
 */

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int print_value(const shmsync_value *value);

static void print_text(const unsigned char *data, uint64_t size) {
    putchar('"');
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] == '"' || data[i] == '\\')
            printf("\\%c", data[i]);
        else if (data[i] < 0x20)
            printf("\\u%04x", data[i]);
        else
            putchar(data[i]);
    }
    putchar('"');
}

static void print_hex(const unsigned char *data, uint64_t size) {
    putchar('"');
    for (uint64_t i = 0; i < size; i++) printf("%02x", data[i]);
    putchar('"');
}

static void print_float(double f) {
    if (isnan(f))
        printf("NaN");
    else if (isinf(f))
        printf(f < 0 ? "-Infinity" : "Infinity");
    else
        printf("%.17g%s", f, f == floor(f) && fabs(f) < 1e16 ? ".0" : "");
}

static int print_container(const shmsync_value *value) {
    bool is_map = value->type == SHMSYNC_MAP, is_first = true;
    shmsync_iter iter;
    shmsync_value key, child;
    int found = shmsync_iterate(value, &iter);
    putchar(is_map ? '{' : '[');
    while (found >= 0 && (found = shmsync_next(&iter, &key, &child)) > 0) {
        printf(is_first ? "" : ", ");
        is_first = false;
        if (is_map) {
            found = print_value(&key);
            printf(": ");
        }
        if (found >= 0) found = print_value(&child);
    }
    putchar(is_map ? '}' : ']');
    return found;
}

static int print_array(const shmsync_value *value) {
    shmsync_array array;
    int result = shmsync_array_of(value, &array);
    if (result) return result;
    printf("{\"$array\": ");
    print_text((const unsigned char *)array.dtype, array.dtype_size);
    printf(", \"order\": \"%c\", \"shape\": [", array.order);
    for (uint32_t i = 0; i < array.ndim; i++) printf("%s%" PRIu64, i ? ", " : "", array.shape[i]);
    printf("], \"data\": ");
    print_hex(array.data, array.size);
    putchar('}');
    return SHMSYNC_OK;
}

static int print_extension(const shmsync_value *value) {
    shmsync_value list;
    int64_t seconds;
    uint32_t nanoseconds;
    if (!shmsync_timestamp_of(value, &seconds, &nanoseconds)) {
        printf("{\"$time\": [%" PRId64 ", %" PRIu32 "]}", seconds, nanoseconds);
    } else if (!shmsync_ext_of(value, &list)) {
        printf("{\"$value\": ");
        int result = print_value(&list);
        putchar('}');
        return result;
    } else {
        printf("{\"$ext\": %" PRId32 ", \"data\": ", value->ext_type);
        print_hex(value->data, value->size);
        putchar('}');
    }
    return SHMSYNC_OK;
}

/* Print a value; return a negative number if it is damaged. The depth of the recursion is bounded by shmsync.h. */
static int print_value(const shmsync_value *value) {
    switch (value->type) {
    case SHMSYNC_NULL: printf("null"); return SHMSYNC_OK;
    case SHMSYNC_BOOL: printf(value->i ? "true" : "false"); return SHMSYNC_OK;
    case SHMSYNC_INT: printf("%" PRId64, value->i); return SHMSYNC_OK;
    case SHMSYNC_UINT: printf("%" PRIu64, value->u); return SHMSYNC_OK;
    case SHMSYNC_FLOAT: print_float(value->f); return SHMSYNC_OK;
    case SHMSYNC_STR: print_text(value->data, value->size); return SHMSYNC_OK;
    case SHMSYNC_ARRAY: return print_array(value);
    case SHMSYNC_EXT: return print_extension(value);
    case SHMSYNC_BYTES:
        printf("{\"$bytes\": ");
        print_hex(value->data, value->size);
        putchar('}');
        return SHMSYNC_OK;
    default: return print_container(value);
    }
}

static int print_newest(shmsync *name, shmsync_version *seen) {
    shmsync_snapshot snapshot;
    shmsync_value value;
    int result = shmsync_pin(name, &snapshot);
    if (result) return result;
    *seen = snapshot.version;
    /* Printing may block, so the writer must not wait for it. */
    shmsync_retain(&snapshot);
    result = shmsync_has_xxhash() ? shmsync_verify(&snapshot) : SHMSYNC_OK;
    if (!result) result = shmsync_parse(&snapshot, &value);
    if (!result) result = print_value(&value);
    putchar('\n');
    fflush(stdout);
    shmsync_release(&snapshot);
    return result;
}

int main(int count, char **arguments) {
    bool follow = count == 3 && !strcmp(arguments[1], "--follow");
    if (count != 2 + follow) {
        fprintf(stderr, "usage: shmcat [--follow] NAME\n");
        return 2;
    }
    shmsync *name;
    shmsync_version seen = {0, 0};
    int result = shmsync_attach(&name, arguments[count - 1], NULL);
    if (!result && follow) result = shmsync_wait(name, seen, -1, NULL);
    if (!result) result = print_newest(name, &seen);
    while (!result && follow && !ferror(stdout)) {
        result = shmsync_wait(name, seen, -1, NULL);
        if (!result) result = print_newest(name, &seen);
        if (result == SHMSYNC_E_NOT_FOUND || result == SHMSYNC_E_NOT_PUBLISHED) result = SHMSYNC_OK; /* wait again */
    }
    if (result) fprintf(stderr, "shmcat: %s: %s\n", arguments[count - 1], shmsync_strerror(result));
    shmsync_detach(name);
    return result ? 1 : 0;
}
