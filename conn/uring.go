package conn

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uring is an io_uring that sends: many sockets are written to in one system
// call. No library for it is kept well enough; what is needed is this page.
//
// It is used in the plainest way, since nothing else gained anything where it
// was measured: no registered files or buffers, no polling thread, no zero
// copy. A send does not wait (MSG_DONTWAIT), so each is complete when the
// system call returns, and no memory is in use behind our back afterwards.
type uring struct {
	fd     int
	memory []byte // of both queues
	sqes   []byte

	// In memory shared with the kernel (io_uring(7)).
	sqTail, cqHead, cqTail *uint32
	sqMask, cqMask         uint32
	sqArray                []uint32
	cqes                   []completion
	entries                []submission

	frames [][]byte // of the submissions that are queued: what keeps them from the garbage collector
}

// submission is struct io_uring_sqe, as far as a send needs it.
type submission struct {
	opcode   uint8
	flags    uint8
	ioprio   uint16
	fd       int32
	offset   uint64
	addr     uint64
	length   uint32
	msgFlags uint32
	userData uint64
	_        [24]byte
}

// completion is struct io_uring_cqe.
type completion struct {
	userData uint64
	result   int32
	flags    uint32
}

// uringParams is struct io_uring_params.
type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, ringMask, ringEntries, flags, dropped, array, _ uint32
		_                                                           uint64
	}
	cq struct {
		head, tail, ringMask, ringEntries, overflow, cqes, flags, _ uint32
		_                                                           uint64
	}
}

const (
	uringOpSend         = 26 // IORING_OP_SEND
	uringEnterGetEvents = 1  // IORING_ENTER_GETEVENTS
	uringOffsetSQEs     = 0x10000000
	uringSingleMmap     = 1 // IORING_FEAT_SINGLE_MMAP, since Linux 5.4
)

// newURing makes a ring for that many sends at a time, a power of two. It
// fails where the kernel is too old or a policy forbids it, as Docker's does.
func newURing(sends int) (u *uring, err error) {
	var p uringParams
	fd, _, errno := syscall.Syscall(unix.SYS_IO_URING_SETUP, uintptr(sends), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("io_uring_setup", errno)
	}
	u = &uring{fd: int(fd), frames: make([][]byte, 0, sends)}
	defer func() {
		if err != nil {
			u.close()
			u = nil
		}
	}()
	if p.features&uringSingleMmap == 0 {
		return u, fmt.Errorf("io_uring of this kernel lacks IORING_FEAT_SINGLE_MMAP")
	}
	unix.CloseOnExec(u.fd)
	size := max(p.sq.array+p.sqEntries*4, p.cq.cqes+p.cqEntries*uint32(unsafe.Sizeof(completion{})))
	if u.memory, err = u.mmap(0, int(size)); err != nil {
		return u, err
	}
	if u.sqes, err = u.mmap(uringOffsetSQEs, int(p.sqEntries)*int(unsafe.Sizeof(submission{}))); err != nil {
		return u, err
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&u.memory[offset])) }
	u.sqTail, u.cqHead, u.cqTail = word(p.sq.tail), word(p.cq.head), word(p.cq.tail)
	u.sqMask, u.cqMask = *word(p.sq.ringMask), *word(p.cq.ringMask)
	u.sqArray = unsafe.Slice(word(p.sq.array), p.sqEntries)
	u.cqes = unsafe.Slice((*completion)(unsafe.Pointer(&u.memory[p.cq.cqes])), p.cqEntries)
	u.entries = unsafe.Slice((*submission)(unsafe.Pointer(&u.sqes[0])), p.sqEntries)
	return u, u.probe()
}

// CheckURing says why this process cannot send through io_uring; nil: it can.
func CheckURing() error {
	u, err := newURing(1)
	if err == nil {
		u.close()
	}
	return err
}

// probe sends a byte, which a kernel can have rings for and refuse all the same:
// IORING_OP_SEND came with Linux 5.6.
func (u *uring) probe() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	defer closeFD(fds[0])
	defer closeFD(fds[1])
	u.add(int32(fds[0]), []byte{1})
	var sent int32
	if err := u.submit(func(_ int, result int32) { sent = result }); err != nil {
		return err
	}
	if sent != 1 {
		return os.NewSyscallError("io_uring send", syscall.Errno(-sent))
	}
	return nil
}

func (u *uring) mmap(offset int64, size int) ([]byte, error) {
	m, err := unix.Mmap(u.fd, offset, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	return m, os.NewSyscallError("mmap of io_uring", err)
}

func (u *uring) close() {
	for _, m := range [][]byte{u.memory, u.sqes} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	closeFD(u.fd)
}

// add queues a send. The bytes must not change before submit has returned.
func (u *uring) add(fd int32, p []byte) {
	tail := *u.sqTail // only we write it
	i := tail & u.sqMask
	u.entries[i] = submission{
		opcode:   uringOpSend,
		fd:       fd,
		addr:     uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))),
		length:   uint32(len(p)),
		msgFlags: unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL,
		userData: uint64(len(u.frames)),
	}
	u.sqArray[i] = i
	atomic.StoreUint32(u.sqTail, tail+1)
	u.frames = append(u.frames, p)
}

// submit sends all that is queued and tells each result: bytes sent, or an
// errno below zero. done gets the number of the send, in the order of add.
func (u *uring) submit(done func(i int, result int32)) error {
	left, waiting := len(u.frames), len(u.frames)
	for waiting > 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(u.fd), uintptr(left), uintptr(waiting), uringEnterGetEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.EAGAIN && errno != unix.EBUSY {
			return os.NewSyscallError("io_uring_enter", errno)
		}
		switch errno {
		case 0:
			left -= int(n)
		case unix.EAGAIN, unix.EBUSY: // short of memory
			runtime.Gosched()
		}
		head, tail := *u.cqHead, atomic.LoadUint32(u.cqTail)
		for ; head != tail; head++ {
			c := &u.cqes[head&u.cqMask]
			done(int(c.userData), c.result)
			waiting--
		}
		atomic.StoreUint32(u.cqHead, head)
	}
	clear(u.frames)
	u.frames = u.frames[:0]
	return nil
}
