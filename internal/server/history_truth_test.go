package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushd/pushd/topics"
)

// press publishes numbered messages to topics, one goroutine for each, in order
// and each until it is acknowledged: half of them by NATS, half by any node.
type press struct {
	// Static.
	fleet *fleet
	js    jetstream.JetStream
	http  *http.Client
	leave chan struct{} // one for each message that may be published

	// Atomic.
	published atomic.Int64

	// Guarded by mu.
	mu    sync.Mutex
	acked []sighting // at their places, as acknowledged
}

func newPress(t testing.TB, f *fleet, urls []string, total int) *press {
	t.Helper()
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &press{fleet: f, js: js, http: &http.Client{Transport: transport, Timeout: patience}, leave: make(chan struct{}, total)}
}

// allow lets more messages be published.
func (p *press) allow(n int) {
	for range n {
		p.leave <- struct{}{}
	}
}

// run publishes messages 1 to count to a topic.
func (p *press) run(ctx context.Context, topic string, count int, byNode bool) error {
	for n := 1; n <= count; n++ {
		select {
		case <-p.leave:
		case <-ctx.Done():
			return ctx.Err()
		}
		body := fmt.Appendf(nil, `{"n":%d,"padding":"%s"}`, n, strings.Repeat("x", rand.IntN(600)))
		id := fmt.Sprintf("%s-%d", topic, n)
		for began := time.Now(); ; {
			seq, err := uint64(0), error(nil)
			if byNode {
				seq, err = p.post(ctx, topic, id, body)
			} else {
				seq, err = p.publish(ctx, topic, id, body)
			}
			if err == nil && seq > 0 {
				p.mu.Lock()
				p.acked = append(p.acked, sighting{seq, n, topic})
				p.mu.Unlock()
				break
			}
			if err == nil && time.Since(began) > stall {
				err = fmt.Errorf("number %d was refused for %v", n, stall)
			}
			if err != nil {
				return fmt.Errorf("publishing to %s: %w", topic, err)
			}
			time.Sleep(rand.N(20 * time.Millisecond))
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		p.published.Add(1)
	}
	return nil
}

// publish returns 0 where it is to be tried again.
func (p *press) publish(ctx context.Context, topic, id string, body []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	ack, err := p.js.Publish(ctx, "push."+topic, body, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, nil // NATS is away
	}
	return ack.Sequence, nil
}

func (p *press) post(ctx context.Context, topic, id string, body []byte) (uint64, error) {
	at := p.fleet.any()
	if at == nil {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+at.host+"/publish/"+topic, strings.NewReader(string(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set(keyHeader, id)
	resp, err := p.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
	}
	switch {
	case err != nil && !at.alive.Load():
		return 0, nil
	case err != nil:
		return 0, err
	case resp.StatusCode == 503:
		return 0, nil
	case resp.StatusCode != 200:
		return 0, fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	c, err := topics.ParseCursor(cursorOf(string(body)))
	if err == nil && c.Seq == 0 {
		err = fmt.Errorf("stored at %s", body)
	}
	return c.Seq, err
}

// streamed reads all that a namespace's stream has.
func streamed(t testing.TB, js jetstream.JetStream, namespace string) (all []sighting) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	stream, err := js.Stream(ctx, "push_"+namespace)
	if err != nil {
		t.Fatal(err)
	}
	last := stream.CachedInfo().State.LastSeq
	if stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("reading stream %s: %v", namespace, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		var data struct{ N int }
		if err := json.Unmarshal(m.Data(), &data); err != nil {
			t.Fatal(err)
		}
		all = append(all, sighting{meta.Sequence.Stream, data.N, strings.TrimPrefix(m.Subject(), "push.")})
		if meta.Sequence.Stream >= last {
			return all
		}
	}
}

// judge compares what the publishers were told with the streams, by namespace.
func (p *press) judge(streams map[string][]sighting) (wrong error) {
	for _, a := range p.acked {
		stream := streams[topics.Namespace(a.topic)]
		if at, found := find(stream, a.seq); !found || stream[at] != a {
			wrong = errors.Join(wrong, fmt.Errorf("%s %d was acknowledged at %d, which the stream does not have", a.topic, a.n, a.seq))
		}
	}
	return wrong
}

func find(stream []sighting, seq uint64) (int, bool) {
	return slices.BinarySearchFunc(stream, seq, func(s sighting, seq uint64) int { return int(int64(s.seq - seq)) })
}

// judge compares what a watcher saw with what the streams have.
func (w *watcher) judge(streams map[string][]sighting) (wrong error) {
	for _, v := range w.watches {
		i := 0
		for _, want := range streams[topics.Namespace(v.pattern)] {
			if want.seq <= v.first || !topics.Match(v.pattern, want.topic) {
				continue
			}
			if i == len(v.seen) || v.seen[i] != want {
				wrong = errors.Join(wrong, fmt.Errorf("%s, %s from %d: message %d is %v, want %v (of %d connections)",
					w.name, v.pattern, v.first, i, at(v.seen, i), want, w.sessions))
				break
			}
			i++
		}
		if wrong == nil && i < len(v.seen) {
			wrong = fmt.Errorf("%s, %s: got %v, which the stream does not have", w.name, v.pattern, v.seen[i])
		}
	}
	return wrong
}

func at(seen []sighting, i int) any {
	if i < len(seen) {
		return seen[i]
	}
	return "none"
}
