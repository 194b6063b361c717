// Print one price: lookup NAME SYMBOL.
package main

/*
#cgo CFLAGS: -O2
#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

func check(result C.int) error {
	if result == C.SHMSYNC_OK {
		return nil
	}
	return fmt.Errorf("%s", C.GoString(C.shmsync_strerror(result)))
}

func price(handle *C.shmsync, symbol string) (float64, error) {
	var newest C.shmsync_snapshot
	var value, found C.shmsync_value
	if err := check(C.shmsync_pin(handle, &newest)); err != nil {
		return 0, err
	}
	defer C.shmsync_unpin(&newest)
	if err := check(C.shmsync_parse(&newest, &value)); err != nil {
		return 0, err
	}
	key := C.CString(symbol)
	defer C.free(unsafe.Pointer(key))
	err := check(C.shmsync_find_str(&value, key, C.size_t(len(symbol)), &found))
	return float64(found.f), err
}

func main() {
	name := C.CString(os.Args[1])
	defer C.free(unsafe.Pointer(name))
	var handle *C.shmsync
	err := check(C.shmsync_attach(&handle, name, nil))
	if err == nil {
		defer C.shmsync_detach(handle)
		var found float64
		found, err = price(handle, os.Args[2])
		fmt.Printf("%.2f\n", found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
