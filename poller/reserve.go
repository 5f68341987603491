package poller

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Reserve is a descriptor kept for the moment when there are no more: given up, it lets one waiting connection be accepted,
// told, and closed. Without it the connection could be neither served nor refused, and its listener would stay ready for
// ever. A Reserve belongs to one goroutine.
type Reserve struct {
	fd int // -1 while there is none
}

// NewReserve takes a descriptor.
func NewReserve() (*Reserve, error) {
	r := &Reserve{fd: -1}
	if err := r.refill(); err != nil {
		return nil, fmt.Errorf("poller: open /dev/null as a reserve: %w%s", err, limitHint(err))
	}
	return r, nil
}

// Use gives the descriptor up, calls accept, which must close what it accepts, and takes the descriptor back. It reports
// false, and does not call accept, when the descriptor had not come back the last time and is not to be had now. Another goroutine
// may be faster to the number given up, so accept must expect EMFILE still.
func (r *Reserve) Use(accept func()) bool {
	if r.fd < 0 && r.refill() != nil {
		return false
	}
	unix.Close(r.fd)
	r.fd = -1
	accept()
	_ = r.refill() // else the next Use tries again
	return true
}

// Close gives the descriptor up for good.
func (r *Reserve) Close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

func (r *Reserve) refill() error {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.fd = fd
	return nil
}
