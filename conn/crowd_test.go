package conn

import (
	"encoding/json"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// crowd is a question: be so many idle clients.
type crowd struct {
	Addr string
	Size int
}

// beACrowd is a role: clients that are upgraded and then silent.
func beACrowd(t *testing.T, in *json.Decoder, out *json.Encoder) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for {
		var ask crowd
		if !asked(t, in, &ask) {
			return
		}
		buf := make([]byte, 1024)
		for range ask.Size {
			c, err := connectTo(ask.Addr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			if _, err := c.Write([]byte(plainRequest)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(buf); err != nil {
				t.Fatal(err)
			}
		}
		out.Encode(len(conns))
	}
}

func TestRecordSize(t *testing.T) {
	if size := unsafe.Sizeof(record{}); size != 40 {
		t.Errorf("a record is %d bytes, want 40", size)
	}
}

// Idle connections cost their record: no goroutine, no buffer.
func TestCrowd(t *testing.T) {
	most := 5000
	if os.Getenv("PUSHD_SOAK") != "" {
		most = 15_000
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	size := min(most, int(limit.Cur)-200)
	onBothBackends(t, func(t *testing.T, backend string) {
		clients := startChild(t, "crowd")
		sh := startShard(t, &script{}, withBackend(backend), func(s *settings) {
			s.tick = 20 * time.Millisecond
			s.HandshakeTimeout = time.Second
		})
		until(t, "the loop is there", func() bool { return look(sh, func() bool { return true }) })
		sh.open().wantNothing() // what is made once is made now
		goroutines, heap := runtime.NumGoroutine(), heapInUse()

		got := 0
		clients.ask(crowd{sh.addr, size}, &got)
		until(t, "all are open and their deadlines past", func() bool {
			due := &sh.deadlines.handshake
			return look(sh, func() bool { return sh.tally.open == int64(size)+1 && due.head == len(due.queue) })
		})
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines with %d connections, %d without", n, size, goroutines)
		}
		each := float64(heapInUse()-heap) / float64(size)
		t.Logf("%d connections, %.0f bytes of heap each", size, each)
		// The test's own map of who is open has a share in it, and easygo 105 bytes.
		if allowed := map[string]float64{"epoll": 100, "easygo": 256}[backend]; each > allowed {
			t.Errorf("%.0f bytes of heap for each connection, want at most %v", each, allowed)
		}
		if n := look(sh, sh.sidesInUse); n != 0 {
			t.Errorf("%d side records for connections that are idle", n)
		}
	})
}

// heapInUse is what is reachable.
func heapInUse() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
