package swarm

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What sockets are watched for. Edge-triggered, since level-triggered the kernel looks at each
// socket again after it was read, which is a sixth of what a message costs here. Room to write
// makes an edge only once, after connect: nobody ever waits for it later.
const (
	watched = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	ignored = unix.EPOLLET // what is still told is the end
)

// set is an epoll set whose descriptor is itself registered
// with the netpoller of the Go runtime. The goroutine parks there instead of in
// epoll_wait, which wakes it in about half the time: what is measured here
// are the server's latencies.
type set struct {
	fd       int
	file     *os.File
	raw      syscall.RawConn
	look     func(fd uintptr) bool
	events   [512]unix.EpollEvent
	ready    int
	errno    syscall.Errno
	deadline time.Time // of file
}

func newSet() (*set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // tells os.NewFile to register it
		unix.Close(fd)
		return nil, fmt.Errorf("make the epoll descriptor non-blocking: %w", err)
	}
	s := &set{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	s.look = s.poll
	return s, nil
}

func (s *set) add(fd int, token, generation int32, mask uint32) error {
	return unix.EpollCtl(s.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: mask, Fd: token, Pad: generation})
}

func (s *set) modify(fd int, token, generation int32, mask uint32) error {
	return unix.EpollCtl(s.fd, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: mask, Fd: token, Pad: generation})
}

// wait returns what is ready, which is valid until the next call. It waits for
// it until the deadline, for ever where that is zero.
func (s *set) wait(deadline time.Time) ([]unix.EpollEvent, error) {
	// The netpoller is told of edges alone: park only after the set was seen empty.
	if !s.poll(uintptr(s.fd)) {
		if !deadline.Equal(s.deadline) {
			s.deadline = deadline
			if err := s.file.SetReadDeadline(deadline); err != nil {
				return nil, err
			}
		}
		if err := s.raw.Read(s.look); err != nil && !os.IsTimeout(err) {
			return nil, err
		}
	}
	if s.errno != 0 {
		return nil, s.errno
	}
	return s.events[:s.ready], nil
}

// poll looks without waiting, and reports whether that settles it. The raw
// system call does not block, so the scheduler need not know of it.
func (s *set) poll(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd,
			uintptr(unsafe.Pointer(&s.events[0])), uintptr(len(s.events)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		s.errno, s.ready = errno, 0
		if errno == 0 {
			s.ready = int(n)
		}
		return errno != 0 || n > 0
	}
}

func (s *set) close() {
	s.file.Close() // nothing is left to be told of an error
}
