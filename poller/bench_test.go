package poller

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Three questions, asked of both backends: what does a ready socket cost with its read, what does a wake-up by Post cost, and
// how long is the way there and back between a loop that sleeps and a peer.

func benchmarkBothBackends(b *testing.B, f func(b *testing.B, backend string)) {
	for _, backend := range []string{"epoll", "easygo"} {
		b.Run(backend, func(b *testing.B) {
			b.ReportAllocs()
			f(b, backend)
		})
	}
}

// BenchmarkReadyAndRead makes 128 sockets ready at a time and has the loop read them all. An operation is one ready event, its
// read, and the write that made it ready.
func BenchmarkReadyAndRead(b *testing.B) {
	benchmarkBothBackends(b, func(b *testing.B, backend string) {
		const sockets = 128
		var pairs [sockets]pair
		buffer, one := make([]byte, 64), make([]byte, 64)
		missing := 0
		done := make(chan struct{}, 1)
		r := startNew(b, backend, &probe{ready: func(token Token, _ Events) {
			if _, errno := readRaw(pairs[token.Slot()].mine, buffer); errno != 0 {
				b.Error(errno)
			}
			if missing--; missing == 0 {
				done <- struct{}{}
			}
		}})
		for i := range pairs {
			pairs[i] = newPair(b)
			r.add(pairs[i].mine, NewToken(uint32(i), 1), Readable)
		}
		count := 0
		round := Func(func() {
			missing = count
			for i := range count {
				if _, errno := writeRaw(pairs[i].theirs, one); errno != 0 {
					b.Error(errno)
				}
			}
		})
		for left := b.N; left > 0; left -= count { // b.Loop would count a round as one operation
			count = min(left, sockets)
			r.Post(round)
			<-done
		}
	})
}

// BenchmarkWakeUp posts to a loop that sleeps, from another goroutine, and waits for the task.
func BenchmarkWakeUp(b *testing.B) {
	benchmarkBothBackends(b, func(b *testing.B, backend string) {
		r := startNew(b, backend, &probe{})
		task := &preallocated{ran: make(chan struct{}, 1)}
		for b.Loop() {
			r.Post(task)
			<-task.ran
		}
	})
}

// BenchmarkPost posts as fast as it can; the loop is mostly awake.
func BenchmarkPost(b *testing.B) {
	benchmarkBothBackends(b, func(b *testing.B, backend string) {
		r := startNew(b, backend, &probe{})
		last := &preallocated{ran: make(chan struct{}, 1)}
		nothing := Func(func() {})
		count := 0
		for b.Loop() {
			r.Post(nothing)
			if count++; count%1024 == 0 { // so that the queue does not grow without end
				r.Post(last)
				<-last.ran
			}
		}
	})
}

// BenchmarkPingPong sends 64 bytes back and forth between the loop and another process, which is cat. The peer is a process and
// not a goroutine, since that would share processors and scheduler with the loop and measure those.
func BenchmarkPingPong(b *testing.B) {
	benchmarkBothBackends(b, func(b *testing.B, backend string) {
		p := openPair(b)
		b.Cleanup(func() { unix.Close(p.mine) })
		if err := unix.SetNonblock(p.theirs, false); err != nil {
			b.Fatal(err)
		}
		theirs := os.NewFile(uintptr(p.theirs), "peer")
		peer := exec.Command("cat")
		peer.Stdin, peer.Stdout = theirs, theirs
		err := peer.Start()
		theirs.Close()
		if err != nil {
			b.Skip(err)
		}
		message := make([]byte, 64)
		left := b.N
		done := make(chan struct{})
		r := startNew(b, backend, &probe{ready: func(Token, Events) {
			n, errno := readRaw(p.mine, message)
			if errno == 0 && n > 0 && left > 0 {
				left--
				_, errno = writeRaw(p.mine, message[:n])
			} else if left == 0 {
				left--
				close(done)
			}
			if errno != 0 {
				b.Error(errno)
			}
		}})
		r.add(p.mine, NewToken(1, 1), Readable)
		b.ResetTimer()
		send(b, p.mine, string(message))
		<-done
		b.StopTimer()
		r.do(func() {
			if err := r.Remove(p.mine); err != nil {
				b.Error(err)
			}
		})
		if err := unix.Shutdown(p.mine, unix.SHUT_WR); err != nil { // cat ends at the end of its input
			b.Error(err)
		}
		if err := peer.Wait(); err != nil {
			b.Error(err)
		}
	})
}
