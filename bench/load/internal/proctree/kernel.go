package proctree

import (
	"errors"
	"fmt"

	"github.com/prometheus/procfs"
)

// Kernel returns the bytes of memory that the kernel has for itself, on behalf of
// whoever: slab (sockets, files, epoll, most of what is queued in sockets), page tables, and
// the stacks of threads. Page cache is not in it, nor is what is allotted at boot.
func Kernel() (uint64, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	memory, err := fs.Meminfo()
	if err != nil {
		return 0, fmt.Errorf("kernel memory: %w", err)
	}
	var sum uint64
	for _, n := range []*uint64{memory.SlabBytes, memory.PageTablesBytes, memory.KernelStackBytes} {
		if n == nil {
			return 0, errors.New("kernel memory: /proc/meminfo lacks Slab, PageTables or KernelStack")
		}
		sum += *n
	}
	return sum, nil
}
