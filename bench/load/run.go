package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pushd/pushd/bench/load/internal/control"
	"github.com/pushd/pushd/bench/load/internal/fleet"
	"github.com/pushd/pushd/bench/load/internal/publish"
	"github.com/pushd/pushd/bench/load/internal/stamp"
	"github.com/pushd/pushd/bench/load/internal/swarm"
)

// workerVariable in the environment makes a process a worker.
const workerVariable = "PUSHD_BENCH_WORKER"

// WorkerMain is a worker and never returns where Run made this process for that, and
// returns at once in all others.
func WorkerMain() {
	if os.Getenv(workerVariable) == "" {
		return
	}
	s, err := swarm.New(int(os.Stdin.Fd()), os.Stdout)
	if err == nil {
		err = s.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run is a scenario on its way. It belongs to one goroutine but for flight.
type run struct {
	// Static once the scenario plays.
	spec      *Spec
	result    *Result
	resumes   bool // clients go on from where they were, if the server lets them
	clock     stamp.Clock
	id        uint32 // in all stamps
	plans     []control.Plan
	server    *server
	fleet     *fleet.Fleet
	publisher publish.Publisher // nil where the scenario does not publish
	expected  []uint32          // subscribers of each topic, steady or slow
	steady    []uint32          // those of them that are steady
	flight    *flight
	progress  *progress
	fallen    *moment // since when clients catch up, in the window that is measured; nil: they do not

	// What was published.
	sequence []uint32 // of each topic, the newest
	number   uint32   // of the next message
	payload  []byte
}

// Run plays a scenario. The error is for what keeps the result from meaning anything; a
// result with losses is none.
func Run(ctx context.Context, spec Spec) (result Result, err error) {
	of, err := find(spec.Scenario)
	if err != nil {
		return Result{}, err
	}
	if err := spec.complete(of); err != nil {
		return Result{}, err
	}
	r := &run{
		spec: &spec, id: rand.Uint32(), flight: newFlight(), progress: newProgress(spec.Progress),
		sequence: make([]uint32, spec.Topics), resumes: of.resumes && spec.TopicsPerClient == 1 && !spec.Target.events(),
		result: &Result{
			Scenario: of.name, Question: of.question, Name: spec.Name, Started: time.Now(),
			Command: spec.Command, Machine: describeMachine(),
		},
	}
	defer r.progress.clear()
	if r.clock, err = stamp.NewClock(); err != nil {
		return Result{}, err
	}
	if r.server, err = startServer(ctx, &spec); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.server.stop()) }()
	if err := r.start(ctx, of); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.end()) }()
	if err := of.play(ctx, r); err != nil {
		return Result{}, errors.Join(fmt.Errorf("%s: %w", of.name, err), r.server.alive())
	}
	r.result.Spec = spec
	return *r.result, nil
}

// start starts the workers, and connects the publisher.
func (r *run) start(ctx context.Context, of scenario) error {
	if err := r.plan(ctx); err != nil {
		return err
	}
	var err error
	r.fleet, err = fleet.Start(fleet.Config{
		Path: r.spec.Executable, Env: []string{workerVariable + "=1"},
		Workers: r.spec.Workers, Complete: r.flight.complete,
	})
	if err != nil {
		return err
	}
	r.result.Connections.Workers = r.fleet.PIDs()
	_, err = r.fleet.Each(ctx, func(i int) control.Request {
		return control.Request{Verb: control.Prepare, Plan: &r.plans[i]}
	})
	if err == nil && of.publishes {
		t := &r.spec.Target
		r.publisher, err = publish.Open(ctx, publish.Config{URL: t.Publish, Body: t.PublishBody, Header: t.PublishHeader}, r.plans[0].Topics)
	}
	if err != nil {
		return errors.Join(err, r.fleet.Close())
	}
	return nil
}

// end ends what start began.
func (r *run) end() error {
	err := r.fleet.Close()
	if r.publisher != nil {
		err = errors.Join(err, r.publisher.Close())
	}
	return err
}

// rfcKey and rfcAccept are the example of RFC 6455 section 1.3. All clients may
// have the same key, since nothing between them and the server caches.
const (
	rfcKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	rfcAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// plan divides the clients among the workers.
func (r *run) plan(ctx context.Context) error {
	t := &r.spec.Target
	whole := control.Plan{
		Run:             r.id,
		TopicsPerClient: r.spec.TopicsPerClient, Accept: rfcAccept,
		Hello: t.Hello, Subscribe: t.Subscribe, Unsubscribe: t.Unsubscribe,
		SubscribedMark: t.SubscribedMark, UnsubscribedMark: t.UnsubscribedMark, GapMark: t.GapMark, Echo: t.Echo,
		Events: t.events(), Deflate: r.spec.Deflate,
		SlowEvery: r.spec.SlowEvery, HandshakeTime: r.spec.HandshakeTime,
	}
	if r.spec.SlowEvery > 0 {
		whole.SlowWindow = slowWindow
	}
	if r.spec.ChurnRate > 0 {
		whole.ChurnEvery = churnEvery
	}
	for i := range r.spec.Topics {
		whole.Topics = append(whole.Topics, fmt.Sprint(t.TopicPrefix, i))
	}
	if r.resumes {
		whole.Resume, whole.CursorMark, whole.EpochMark, whole.RecoveredMark = t.Resume, t.CursorMark, t.EpochMark, t.RecoveredMark
	}
	r.expected, r.steady = make([]uint32, r.spec.Topics), make([]uint32, r.spec.Topics)
	r.flight.workers = make([]uint32, r.spec.Topics)
	urls := []string{t.URL}
	for _, n := range r.spec.Nodes {
		urls = append(urls, n.URL)
	}
	for i := range r.spec.Workers {
		plan := whole
		if err := r.aim(ctx, &plan, urls[i*len(urls)/r.spec.Workers]); err != nil {
			return fmt.Errorf("--url: %w", err)
		}
		plan.First = i * r.spec.Clients / r.spec.Workers
		plan.Count = (i+1)*r.spec.Clients/r.spec.Workers - plan.First
		r.plans = append(r.plans, plan)
		r.expect(&plan)
	}
	return nil
}

// aim says which server a worker connects to, and how.
func (r *run) aim(ctx context.Context, plan *control.Plan, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	address, err := resolve(ctx, u)
	if err != nil {
		return err
	}
	plan.Address, plan.Sources = address.String(), r.spec.sources(address)
	plan.Request, plan.InRequest = r.spec.request(target, u.Host), strings.Contains(target, "{topic}")
	return nil
}

// expect counts the subscribers that a worker will have and that stay.
func (r *run) expect(plan *control.Plan) {
	steady := make([]uint32, len(plan.Topics))
	var topics []uint32
	for client := plan.First; client < plan.First+plan.Count; client++ {
		if plan.Churns(client) {
			continue
		}
		topics = plan.Assign(topics[:0], client)
		for _, topic := range topics {
			r.expected[topic]++
			if !plan.Slow(client) {
				steady[topic]++
			}
		}
	}
	for topic, n := range steady {
		r.steady[topic] += n
		if n > 0 {
			r.flight.workers[topic]++
		}
	}
}

// resolve returns the address to connect to, IPv4 where there is one.
func resolve(ctx context.Context, u *url.URL) (netip.AddrPort, error) {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return netip.AddrPort{}, err
	}
	at := max(0, slices.IndexFunc(addresses, func(a netip.Addr) bool { return a.Unmap().Is4() }))
	return netip.AddrPortFrom(addresses[at].Unmap(), uint16(number)), nil
}

// request is what each client sends first, an upgrade or the request for a stream of events; {topic} may be left in it.
func (s *Spec) request(target, host string) string {
	var b strings.Builder
	t := &s.Target
	// The path is taken from the text: url.URL would escape {topic}.
	_, after, _ := strings.Cut(target, "://")
	_, path, _ := strings.Cut(after, "/")
	fmt.Fprintf(&b, "GET /%s HTTP/1.1\r\nHost: %s\r\n", path, host)
	if t.events() {
		b.WriteString("Accept: text/event-stream\r\n")
	} else {
		fmt.Fprintf(&b, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", rfcKey)
		if t.Protocol != "" && t.Protocol != "-" {
			fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", t.Protocol)
		}
		if s.Deflate {
			b.WriteString("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n")
		}
	}
	for _, line := range t.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}
