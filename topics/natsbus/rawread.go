package natsbus

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// rawReader reads a socket without telling the Go scheduler, as a read that
// never blocks may. Told of a system call, the runtime of a process that was
// idle wakes its monitor thread, which then looks around every 20 us: with a
// message every millisecond or less it never sleeps again, at some tenth of all
// CPU. One goroutine reads at a time.
type rawReader struct {
	// Static after newRawReader.
	conn syscall.RawConn
	try  func(fd uintptr) bool // read as a value, made once since it would be allocated at each use

	// Of the goroutine that reads.
	into  []byte
	n     int
	errno syscall.Errno
}

// newRawReader makes one for a connection, or nil if that is no socket.
func newRawReader(conn net.Conn) *rawReader {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawReader{conn: raw}
	r.try = r.read
	return r
}

// Read is an io.Reader's, and keeps the connection's deadlines.
func (r *rawReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.into = p
	err := r.conn.Read(r.try) // parks the goroutine for as long as try says false
	r.into = nil
	switch {
	case err != nil:
		return 0, err
	case r.errno != 0:
		return 0, os.NewSyscallError("read", r.errno)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// read reports whether it has a result.
func (r *rawReader) read(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(r.into))), uintptr(len(r.into)))
		if errno == syscall.EINTR {
			continue
		}
		r.n, r.errno = int(n), errno
		return errno != syscall.EAGAIN
	}
}
