/* Print one price: lookup NAME SYMBOL. */

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <stdio.h>

int main(int count, char **arguments) {
    if (count != 3) return 2;
    shmsync *prices;
    shmsync_snapshot newest;
    shmsync_value value, price;
    int result = shmsync_attach(&prices, arguments[1], NULL);
    if (!result) result = shmsync_pin(prices, &newest);
    if (!result) {
        result = shmsync_parse(&newest, &value);
        if (!result) result = shmsync_find_str(&value, arguments[2], strlen(arguments[2]), &price);
        if (!result && price.type == SHMSYNC_FLOAT) printf("%.2f\n", price.f);
        shmsync_unpin(&newest); /* what is needed later is copied before this */
    }
    if (result) fprintf(stderr, "%s: %s\n", arguments[1], shmsync_strerror(result));
    shmsync_detach(prices);
    return result ? 1 : 0;
}
