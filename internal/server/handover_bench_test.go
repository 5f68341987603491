package server

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/pushd/pushd/internal/natstest"
)

// BenchmarkCarry hands quiet connections over, once in an iteration, between
// processes of the real program: one subscription each, with history or without,
// and every eighth has both and one more. One client besides hears something each
// millisecond, and says for how long it heard nothing. Medians are reported.
func BenchmarkCarry(b *testing.B) {
	for _, clients := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) { benchmarkCarry(b, clients) })
	}
}

func benchmarkCarry(b *testing.B, clients int) {
	nats := natstest.Start(b, natstest.Store(b.TempDir()))
	file := filepath.Join(b.TempDir(), "pushd.yaml")
	if err := os.WriteFile(file, []byte("namespaces:\n  scores: {delivery: all, history: {age: 1h}}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	u := startUpgradable(b, nats.URL(), "--config="+file)
	for i := range clients {
		query := fmt.Sprintf("topic=%s.%d", []string{"scores", "chat"}[i%2], i%100)
		if i%8 == 0 {
			query = fmt.Sprintf("topic=scores.%d&topic=chat.%d&topic=scores.all", i, i)
		}
		u.dial("format=raw&" + query)
	}
	nc, err := natsgo.Connect(nats.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	f := &upgraded{last: make(map[string]int), socket: u.dial("format=raw&topic=clock.a")}
	if err := f.socket.conn.SetDeadline(time.Time{}); err != nil {
		b.Fatal(err)
	}
	heard := make(chan time.Duration, 1<<20)
	go func() {
		defer close(heard)
		for last := time.Now(); ; {
			if _, err := f.socket.conn.Read(make([]byte, 1<<12)); err != nil {
				return
			}
			now := time.Now()
			heard <- now.Sub(last)
			last = now
		}
	}()
	stop := publishing(b, nc, []string{"clock.a"}, time.Millisecond)
	defer stop()
	var paused, unread, silent []time.Duration
	for b.Loop() {
		time.Sleep(300 * time.Millisecond)
		for len(heard) > 0 {
			<-heard
		}
		before := u.pid
		status, body, done := u.upgrade()
		if status != http.StatusOK || done.Connections < clients {
			b.Fatalf("%d %s", status, body)
		}
		eventually(b, "the old process ends", func() bool { return !runs(before) })
		longest := time.Duration(0)
		for len(heard) > 0 {
			longest = max(longest, <-heard)
		}
		paused, unread, silent = append(paused, done.Paused), append(unread, done.Unread), append(silent, longest)
	}
	for name, all := range map[string][]time.Duration{"paused-ms": paused, "unread-ms": unread, "silent-ms": silent} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name)
		b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "max-"+name)
	}
}
