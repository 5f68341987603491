package natsbus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pushd/pushd/internal/natstest"
	"github.com/pushd/pushd/topics"
)

// back waits until a stream answers again, and returns how it stands.
func back(t *testing.T, b *Bus, namespace string) (s topics.Stream) {
	t.Helper()
	eventually(t, "the stream answers", func() bool {
		var err error
		s, err = stream(t, b, namespace)
		if err != nil && !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
		return err == nil
	})
	return s
}

// TestHistoryAfterRestart wants what was stored on disk to be what it was, and
// what was stored in memory to be another stream, that nobody had to ask for.
func TestHistoryAfterRestart(t *testing.T) {
	t.Parallel()
	f := func(name string, end func(*natstest.Process), inMemory bool) {
		t.Run(name, func(t *testing.T) {
			s := natstest.Start(t, natstest.Store(t.TempDir()))
			b, r := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 1000, InMemory: inMemory}}})
			mustSubscribe(t, b, namespace("ns"))
			fill(t, b, "ns", 500, 3)
			before, whole := mustStream(t, b, "ns"), mustRead(t, b, topics.Query{Namespace: "ns"})

			end(s)
			eventually(t, "disconnected", func() bool { return !b.State().Connected })
			if _, err := stream(t, b, "ns"); !errors.Is(err, ErrAway) {
				t.Errorf("Stream while away: %v", err)
			}
			if _, err := read(t, b, topics.Query{Namespace: "ns"}); !errors.Is(err, ErrAway) {
				t.Errorf("Read while away: %v", err)
			}
			if err := publish(t, b, "ns.1", "x"); !errors.Is(err, ErrAway) {
				t.Errorf("Publish while away: %v", err)
			}
			s.Restart()

			r.await(t, "LostAll", func(e []event) bool { return e[len(e)-1].lostAll }) // from now on all comes live
			eventually(t, "published again", func() bool { return publish(t, b, "ns.1", "after") == nil })
			r.awaitMessage(t, "after")
			after := back(t, b, "ns") // on a connection of its own
			page := mustRead(t, b, topics.Query{Namespace: "ns"})
			if inMemory {
				if after.Epoch == before.Epoch || after.Last != 1 || len(page.Messages) != 1 || page.Messages[0].Cursor.Epoch != after.Epoch {
					t.Errorf("before %+v, after %+v, read %+v", before, after, page)
				}
				return
			}
			if after.Epoch != before.Epoch || after.First != 1 || after.Last != before.Last+1 || len(page.Messages) != 500 {
				t.Errorf("before %+v, after %+v", before, after)
			}
			for i, m := range page.Messages {
				if m.Cursor != whole.Messages[i].Cursor || m.Topic != whole.Messages[i].Topic || string(m.Data) != string(whole.Messages[i].Data) {
					t.Fatalf("%+v was %+v", m, whole.Messages[i])
				}
			}
		})
	}
	f("killed", (*natstest.Process).Kill, false)
	f("stopped", (*natstest.Process).Stop, false)
	f("memory", (*natstest.Process).Kill, true)
}

// TestStreamMadeAnew removes the stream behind the Bus's back.
func TestStreamMadeAnew(t *testing.T) {
	var logged strings.Builder
	b, _ := open(t, Config{
		Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{"ns": {Messages: 10}}, Log: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	js := jetStream(t, b.ClientURL())
	first := keep(t, b, "ns.a", "x", "")
	if err := js.DeleteStream(t.Context(), "push_ns"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, b, topics.Query{Namespace: "ns"}); !errors.Is(err, ErrAway) {
		t.Errorf("Read: %v", err)
	}
	s := mustStream(t, b, "ns")
	if s.Epoch == first.Epoch || s.Last != 0 || s.First != 1 {
		t.Errorf("stream %+v, first cursor %+v", s, first)
	}
	if again := keep(t, b, "ns.a", "x", ""); again != (topics.Cursor{Epoch: s.Epoch, Seq: 1}) {
		t.Errorf("cursor %+v", again)
	}
	if err := b.Close(); err != nil { // from here on nothing is logged
		t.Fatal(err)
	}
	if got := logged.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "stream=push_ns namespace=ns") {
		t.Errorf("logged %s", got)
	}
}

// TestStreamWentBack makes the stream anew without a word: messages that come
// live tell of it.
func TestStreamWentBack(t *testing.T) {
	b, r := open(t, Config{Listen: "127.0.0.1:0", Streams: map[string]StreamConfig{"ns": {Messages: 10}}})
	mustSubscribe(t, b, namespace("ns"))
	js, nc := jetStream(t, b.ClientURL()), client(t, b.ClientURL())
	first := keep(t, b, "ns.a", "x", "")
	keep(t, b, "ns.a", "x", "")
	config := streamConfig(t, js, "push_ns")
	if err := js.DeleteStream(t.Context(), "push_ns"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	outside(t, nc, "push.ns.a", "new")
	r.awaitMessage(t, "new")
	eventually(t, "another epoch", func() bool { return b.State().Streams["ns"].Epoch != first.Epoch })
	outside(t, nc, "push.ns.a", "newer")
	r.awaitMessage(t, "newer")
	all := r.all()
	if last := all[len(all)-1].cursor; last.Epoch == first.Epoch || last.Seq != 2 {
		t.Errorf("cursor %+v, first %+v", last, first)
	}
}

// TestExistingGone does not make anew what is its owner's.
func TestExistingGone(t *testing.T) {
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	streams := map[string]StreamConfig{"ns": {Messages: 10}}
	openClose(t, Config{URLs: []string{s.URL()}, Streams: streams})
	streams["ns"] = StreamConfig{Existing: true}
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: streams})
	keep(t, b, "ns.a", "x", "")
	if err := jetStream(t, s.URL()).DeleteStream(t.Context(), "push_ns"); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, b, "ns.a", "x"); !errors.Is(err, ErrAway) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := stream(t, b, "ns"); !errors.Is(err, ErrAway) {
		t.Errorf("Stream: %v", err)
	}
	if calls := b.State().Calls; calls != 0 {
		t.Errorf("%d calls beside questions", calls)
	}
}

// TestLostWhileReading kills the server under many readers: each answer is the
// page or ErrAway, and comes once.
func TestLostWhileReading(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Store(t.TempDir()))
	b, _ := open(t, Config{URLs: []string{s.URL()}, Streams: map[string]StreamConfig{"ns": {Messages: 10_000}}})
	fill(t, b, "ns", 5000, 5)
	var whole, away atomic.Int64
	const readers = 500
	done, enough := make(chan struct{}, 2*readers), make(chan struct{})
	for range readers {
		b.Read(topics.Query{Namespace: "ns", Messages: 2000, Bytes: 1 << 20}, func(page topics.Page, err error) {
			switch {
			case err == nil && len(page.Messages) == 2000 && page.Next == 2001:
				if whole.Add(1) == 10 {
					close(enough)
				}
			case errors.Is(err, ErrAway) && len(page.Messages) == 0:
				away.Add(1)
			default:
				t.Errorf("%d messages, next %d, %v", len(page.Messages), page.Next, err)
			}
			done <- struct{}{}
		})
	}
	wait(t, enough, "page")
	s.Kill()
	for range readers {
		wait(t, done, "answer")
	}
	if whole.Load() < 10 || away.Load() == 0 {
		t.Errorf("%d pages and %d errors: this tested nothing", whole.Load(), away.Load())
	}
	eventually(t, "the server is gone", func() bool { return !b.State().Connected })
	s.Restart()
	if s := back(t, b, "ns"); s.Last != 5000 {
		t.Errorf("stream %+v", s)
	}
	mustRead(t, b, topics.Query{Namespace: "ns"})
	if len(done) > 0 {
		t.Error("an answer came twice")
	}
}

// envChild holds the store of a process that publishes until it is killed.
const envChild = "PUSHD_NATSBUS_STORE"

// publishUntilKilled writes each number that its embedded server has acknowledged.
func publishUntilKilled(dir string) {
	b, err := Open(context.Background(), Config{Store: dir, Streams: map[string]StreamConfig{"ns": {Bytes: 1 << 30}}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 1; ; i++ {
		b.Publish(Publication{Topic: "ns.a", Data: []byte(strconv.Itoa(i)), Done: func(at topics.Cursor, err error) {
			fmt.Println(at.Seq, i, err)
		}})
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // rather than fill the queue
		}
	}
}

// TestKillEmbedded kills a process under load, and wants all that its embedded
// server had acknowledged.
func TestKillEmbedded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChild+"="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	acked := make(map[uint64]string)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var seq uint64
		var data, problem string
		if _, err := fmt.Sscan(lines.Text(), &seq, &data, &problem); err != nil || problem != "<nil>" {
			break // cut short by the kill, or wrong
		}
		acked[seq] = data
		if len(acked) == 5000 {
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait()
	if len(acked) < 5000 {
		t.Fatalf("%d acknowledged, and then %s", len(acked), lines.Text())
	}

	b, _ := open(t, Config{Store: dir, Streams: map[string]StreamConfig{"ns": {Bytes: 1 << 30}}})
	all, _ := readAll(t, b, topics.Query{Namespace: "ns", Messages: 5000, Bytes: 1 << 20})
	for _, m := range all {
		if data, known := acked[m.Cursor.Seq]; known && data != string(m.Data) {
			t.Errorf("number %d is %s, was acknowledged as %s", m.Cursor.Seq, m.Data, data)
		}
		delete(acked, m.Cursor.Seq)
	}
	if len(acked) > 0 {
		t.Errorf("%d of those acknowledged are gone", len(acked))
	}
}

// TestLeaderKilled has a stream of three replicas survive its leader.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := natstest.StartCluster(t)
	logged := openClose(t, Config{URLs: c.URLs(), Streams: map[string]StreamConfig{"mem": {Messages: 1, InMemory: true}}})
	if !strings.Contains(logged, "level=WARN") || !strings.Contains(logged, "stream=push_mem") {
		t.Errorf("no warning of one replica in memory: %s", logged)
	}
	b, r := open(t, Config{URLs: c.URLs(), Streams: map[string]StreamConfig{"ns": {Bytes: 1 << 20, Replicas: 3}}})
	mustSubscribe(t, b, namespace("ns"))
	fill(t, b, "ns", 1000, 10)
	before := mustStream(t, b, "ns")

	c.Leader("push_ns").Kill()
	eventually(t, "published again", func() bool {
		err := publish(t, b, "ns.1", "after")
		if err != nil && !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
		return err == nil
	})
	after := back(t, b, "ns")
	if after.Epoch != before.Epoch || after.Last <= before.Last {
		t.Errorf("before %+v, after %+v", before, after)
	}
	eventually(t, "all are read", func() bool { // a replica may lag
		page := mustRead(t, b, topics.Query{Namespace: "ns", Messages: 5000, Bytes: 1 << 20})
		return page.Next > after.Last
	})
	if len(r.messages()) == 0 {
		t.Error("nothing came live")
	}
}
