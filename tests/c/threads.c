/* Threads that read one name, each with a handle of its own: threads NAME COUNT. Prints how many reads went wrong. */

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <pthread.h>
#include <stdio.h>

static void *read_many(void *name) {
    uintptr_t wrong = 0;
    for (int round = 0; round < 20; round++) {
        shmsync *handle;
        if (shmsync_attach(&handle, (const char *)name, NULL)) return (void *)1;
        for (int i = 0; i < 300; i++) {
            shmsync_snapshot snapshot;
            if (shmsync_pin(handle, &snapshot)) {
                wrong++;
                continue;
            }
            for (uint64_t at = 1; at < snapshot.size; at++) wrong += snapshot.payload[at] != snapshot.payload[0];
            if (i % 7 == 0) {
                shmsync_retain(&snapshot);
                shmsync_release(&snapshot);
            } else {
                shmsync_unpin(&snapshot);
            }
        }
        shmsync_detach(handle);
    }
    return (void *)wrong;
}

int main(int count, char **arguments) {
    pthread_t threads[16];
    uintptr_t wrong = 0;
    int number = count == 3 ? atoi(arguments[2]) % 17 : 0;
    for (int i = 0; i < number; i++)
        if (pthread_create(&threads[i], NULL, read_many, arguments[1])) return 1;
    for (int i = 0; i < number; i++) {
        void *found;
        pthread_join(threads[i], &found);
        wrong += (uintptr_t)found;
    }
    printf("%llu\n", (unsigned long long)wrong);
    return 0;
}
