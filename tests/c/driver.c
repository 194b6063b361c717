/* A reader that does what it is told: one command on each line of stdin, one line of answer on stdout.
 *
 *     pin N, unpin N, retain N, release N, verify N      of snapshot N, 0 to 15: the result
 *     hash N, seq N                                      a hash of its payload; its sequence number
 *     changes N SINCE                                    the ranges that have changed, or the error
 *     wait N MS                                          wait for a version other than that of snapshot N
 *     refresh, seal, detach, attach                      the result
 *     int N KEY, uint N KEY, str N KEY                   the value of a key in a map: its type, and i
 *     fork                                               results of pin, seal and wait in a child, and the child's own
 *     child N                                            fork and unpin N; the child answers "hash" until "end"
 *     arm STEP                                           stop at the next STEP: print "at STEP", go on after a line
 */

#define SHMSYNC_IMPLEMENTATION
#define SHMSYNC_STEP(name) driver_step(name)
static void driver_step(const char *name);
#include <shmsync.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static char armed[32];
static shmsync_snapshot snapshots[16];
static shmsync *handle;

static void driver_step(const char *name) {
    char line[32];
    if (strcmp(armed, name)) return;
    armed[0] = 0;
    printf("at %s\n", name);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) _exit(3);
}

static uint64_t hash_of(const shmsync_snapshot *snapshot) { /* FNV-1a */
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint64_t i = 0; i < snapshot->size; i++) hash = (hash ^ snapshot->payload[i]) * UINT64_C(1099511628211);
    return hash;
}

static void run_in_child(const char *name) {
    shmsync_version none = {0, 0}, newest;
    shmsync_snapshot snapshot;
    shmsync *own = NULL;
    fflush(stdout);
    pid_t child = fork();
    if (child) {
        waitpid(child, NULL, 0);
        return;
    }
    int results[4] = {shmsync_pin(handle, &snapshot), shmsync_seal(handle), shmsync_wait(handle, none, 0, &newest),
                      shmsync_refresh(handle)};
    shmsync_unpin(&snapshots[0]);
    shmsync_detach(handle);
    int result = shmsync_attach(&own, name, NULL);
    if (!result) result = shmsync_pin(own, &snapshot);
    printf("%d %d %d %d %d\n", results[0], results[1], results[2], results[3], result);
    if (!result) shmsync_unpin(&snapshot);
    shmsync_detach(own);
    fflush(stdout);
    _exit(0);
}

static void serve_child(shmsync_snapshot *snapshot) {
    char line[64];
    fflush(stdout);
    pid_t child = fork();
    if (child) {
        printf("%d\n", shmsync_unpin(snapshot));
        fflush(stdout);
        waitpid(child, NULL, 0);
        return;
    }
    while (fgets(line, sizeof line, stdin) && strncmp(line, "end", 3)) {
        printf("%" PRIu64 "\n", hash_of(snapshot));
        fflush(stdout);
    }
    printf("ended\n");
    fflush(stdout);
    _exit(0);
}

static int find(const char *command, const shmsync_snapshot *snapshot, const char *key, shmsync_value *out) {
    shmsync_value map;
    int result = shmsync_parse(snapshot, &map);
    if (result) return result;
    if (!strcmp(command, "str")) return shmsync_find_str(&map, key, strlen(key), out);
    if (!strcmp(command, "uint")) return shmsync_find_uint(&map, strtoull(key, NULL, 10), out);
    return shmsync_find_int(&map, strtoll(key, NULL, 10), out);
}

static void print_changes(const shmsync_snapshot *snapshot, uint64_t since) {
    shmsync_changes changes;
    uint64_t start, end;
    int result = shmsync_changes_since(snapshot, since, &changes), more = result ? result : 1;
    while (more > 0 && (more = shmsync_next_change(&changes, &start, &end)) > 0)
        printf("%" PRIu64 "-%" PRIu64 " ", start, end);
    printf("%d\n", more);
}

static void answer(const char *name, const char *command, unsigned number, const char *argument) {
    shmsync_snapshot *snapshot = &snapshots[number % 16];
    shmsync_value value;
    int result = 0;
    if (!strcmp(command, "pin"))
        result = shmsync_pin(handle, snapshot);
    else if (!strcmp(command, "unpin"))
        result = shmsync_unpin(snapshot);
    else if (!strcmp(command, "retain"))
        result = shmsync_retain(snapshot);
    else if (!strcmp(command, "release"))
        result = shmsync_release(snapshot);
    else if (!strcmp(command, "verify"))
        result = shmsync_verify(snapshot);
    else if (!strcmp(command, "wait"))
        result = shmsync_wait(handle, snapshot->version, 1000000 * strtoll(argument, NULL, 10), NULL);
    else if (!strcmp(command, "refresh"))
        result = shmsync_refresh(handle);
    else if (!strcmp(command, "seal"))
        result = shmsync_seal(handle);
    else if (!strcmp(command, "detach"))
        shmsync_detach(handle), handle = NULL;
    else if (!strcmp(command, "attach"))
        result = shmsync_attach(&handle, name, NULL);
    else if (!strcmp(command, "has_xxhash"))
        result = shmsync_has_xxhash();
    else if (!strcmp(command, "hash")) {
        printf("%" PRIu64 "\n", hash_of(snapshot));
        return;
    } else if (!strcmp(command, "seq")) {
        printf("%" PRIu64 "\n", snapshot->version.seq);
        return;
    } else if (!strcmp(command, "changes")) {
        print_changes(snapshot, strtoull(argument, NULL, 10));
        return;
    } else if (!strcmp(command, "fork")) {
        run_in_child(name);
        return;
    } else if (!strcmp(command, "child")) {
        serve_child(snapshot);
        return;
    } else if (!strcmp(command, "arm"))
        snprintf(armed, sizeof armed, "%.31s", argument);
    else {
        value.i = 0;
        result = find(command, snapshot, argument, &value);
        if (!result) result = value.type;
        printf("%d %" PRId64 "\n", result, result < 0 ? 0 : value.i);
        return;
    }
    printf("%d\n", result);
}

static void ignore(int number) { (void)number; }

int main(int count, char **arguments) {
    char line[512];
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = ignore;
    sigaction(SIGUSR1, &action, NULL);
    if (count != 2) return 2;
    int result = shmsync_attach(&handle, arguments[1], NULL);
    printf("%d\n", result);
    fflush(stdout);
    while (!result && fgets(line, sizeof line, stdin)) {
        char command[32] = "", argument[400] = "";
        unsigned number = 0;
        sscanf(line, "%31s %u %399[^\n]", command, &number, argument);
        answer(arguments[1], command, number, argument);
        fflush(stdout);
    }
    for (int i = 0; i < 16; i++) {
        shmsync_unpin(&snapshots[i]);
        shmsync_release(&snapshots[i]);
    }
    shmsync_detach(handle);
    return 0;
}
