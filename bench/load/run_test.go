package load

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for messages that do not come: long where
// none is to be lost, so that a busy machine loses none.
const patience = 2 * time.Second

// pushdServer is how to run the real program on ports of its own.
func pushdServer(t *testing.T, binary string) (Target, Server) {
	t.Helper()
	var address [3]string
	for i := range address {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		address[i] = listener.Addr().String()
	}
	return Pushd("ws://"+address[0]+"/ws", "nats://"+address[2]+"/push.{topic}"), Server{
		Start: fmt.Sprintf("exec '%s' serve --listen %s --admin %s --nats-listen %s --store memory --drain-window 0s --heartbeat 1s --log-level warn",
			binary, address[0], address[1], address[2]),
		GCURL: "http://" + address[1] + "/debug/pprof/heap?gc=1",
	}
}

func buildPushd(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pushd")
	if out, err := exec.CommandContext(testContext(t), "go", "build", "-o", path, "github.com/pushd/pushd/cmd/pushd").CombinedOutput(); err != nil {
		t.Fatalf("build pushd: %v\n%s", err, out)
	}
	return path
}

// Each scenario plays against the real pushd, and nothing is lost, comes twice
// or out of order.
func TestScenarios(t *testing.T) {
	t.Parallel()
	binary := buildPushd(t)
	specs := map[string]Spec{
		"idle":      {Clients: 50, Duration: 2500 * time.Millisecond},
		"fanout":    {Clients: 50, InFlight: 4, Messages: 100},
		"ticker":    {Clients: 40, Rate: 1000, Messages: 300},
		"many":      {Clients: 60, Topics: 20, Rate: 500, Messages: 200},
		"storm":     {Clients: 60, Topics: 10},
		"resume":    {Clients: 60, Messages: 100},
		"churn":     {Clients: 40, Topics: 10, Rate: 200, ChurnRate: 500, Duration: 500 * time.Millisecond},
		"slow":      {Clients: 20, SlowEvery: 4, Rate: 200, Duration: 500 * time.Millisecond},
		"handshake": {Clients: 8, Duration: 300 * time.Millisecond},
		"soak":      {Clients: 40, Topics: 10, Rate: 200, Duration: 600 * time.Millisecond},
	}
	for _, s := range Scenarios() {
		spec, ok := specs[s.Name]
		if !ok {
			t.Errorf("scenario %s has no test", s.Name)
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			spec.Scenario, spec.Settle, spec.Patience = s.Name, 50*time.Millisecond, 20*time.Second
			if s.Name == "storm" {
				spec.Patience = patience // it is waited for, since messages are sent while nobody is there
			}
			if spec.Duration == 0 && s.Name != "storm" {
				spec.Duration = testTimeout // Messages end it
			}
			spec.Target, spec.Server = pushdServer(t, binary)
			if s.Name == "resume" {
				keepsHistory(t, &spec.Server)
			}
			spec.Command = []string{"pushbench", s.Name}
			r, err := Run(testContext(t), spec)
			if err != nil {
				t.Fatal(err)
			}
			checkEnded(t, &r)
			checkWhole(t, &r, spec)
			checkScenario(t, &r)
			checkWritten(t, &r)
		})
	}
}

// checkWhole says that everything arrived, once and in order.
func checkWhole(t *testing.T, r *Result, spec Spec) {
	t.Helper()
	if r.Connections.Failed != 0 || r.Connections.Lost != 0 {
		t.Errorf("connections: %+v", r.Connections)
	}
	if r.Scenario != "handshake" && r.Connections.Open != spec.Clients {
		t.Errorf("%d connections were open, want %d", r.Connections.Open, spec.Clients)
	}
	if workers := len(r.Connections.Workers); workers != 2 {
		t.Errorf("%d workers, want 2", workers)
	}
	for _, w := range r.Windows {
		s := w.Steady
		if s.Missing+s.Duplicate+s.OutOfOrder+s.Late+s.Unwanted+s.Gaps+w.Foreign > 0 || s.Expected != s.Received+s.Away {
			t.Errorf("window %s: %+v, %d foreign", w.Name, s, w.Foreign)
		}
		if o := w.Others; o.Missing+o.Duplicate+o.OutOfOrder+o.Late+o.Unwanted > 0 {
			t.Errorf("window %s, others: %+v", w.Name, o)
		}
		if len(w.Problems) > 0 || w.Overdue > 0 {
			t.Errorf("window %s: %v, %d overdue", w.Name, w.Problems, w.Overdue)
		}
		if w.Latency.Count != int64(s.Received) {
			t.Errorf("window %s: %d latencies of %d messages", w.Name, w.Latency.Count, s.Received)
		}
		if w.Memory.RSS == 0 {
			t.Errorf("window %s: the server has no memory", w.Name)
		}
	}
}

// checkScenario says that each did what it is for.
func checkScenario(t *testing.T, r *Result) {
	t.Helper()
	last := r.Windows[len(r.Windows)-1]
	clients := uint64(r.Spec.Clients)
	want := func(what string, got, want uint64) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	switch r.Scenario {
	case "idle":
		if last.Pings == 0 {
			t.Error("no pings")
		}
		want("handshakes", r.Window("connect").Handshakes, clients)
	case "fanout":
		want("received", last.Steady.Received, 100*clients)
		want("messages that reached all", uint64(last.Last.Count), 100)
	case "ticker":
		want("published", uint64(last.Published), 300)
	case "many":
		want("received", last.Steady.Received, 200*clients/uint64(r.Spec.Topics))
		want("messages that reached all", uint64(last.Last.Count), 200)
	case "storm":
		want("came back", r.Window("storm").Handshakes, clients)
		want("received by those who are back", last.Steady.Received, clients)
		want("away", last.Steady.Away, 0)
	case "resume":
		w := r.Window("resume")
		want("received by those who came back", w.Steady.Received, 100*clients)
		checkCaughtUp(t, w, clients, 100*clients)
		want("received afterwards", last.Steady.Received, clients)
	case "churn":
		if last.Changes == 0 {
			t.Error("nobody changed topics")
		}
		want("received by those who stay", last.Steady.Received, uint64(last.Published)*2)
	case "slow":
		want("received by the others", last.Steady.Received, uint64(last.Published)*15)
		want("received by the stalled", last.Others.Received, uint64(last.Published)*5)
	case "handshake":
		if last.Handshakes == 0 || last.Handshakes != uint64(last.Ready.Count) {
			t.Errorf("%d handshakes, %d of them timed", last.Handshakes, last.Ready.Count)
		}
	case "soak":
		want("windows", uint64(len(r.Windows)), 3)
		want("received", last.Steady.Received, uint64(last.Published)*4)
	}
	if of, err := find(r.Scenario); err != nil || of.publishes && last.Steady.Received == 0 {
		t.Errorf("nothing was received (%v)", err)
	}
}

// checkWritten says that a result survives JSON, and that its table has it all.
func checkWritten(t *testing.T, r *Result) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(&back)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(text) {
		t.Errorf("JSON changes a result:\n%s\n%s", text, again)
	}
	table := r.Markdown()
	for _, part := range append([]string{r.Question, r.Machine.Kernel, "`pushbench " + r.Scenario + "`"}, figureTexts(r)...) {
		if part == "" || !strings.Contains(table, part) {
			t.Errorf("the table lacks %q:\n%s", part, table)
		}
	}
	if len(r.Figures) == 0 {
		t.Error("there is no answer")
	}
}

func figureTexts(r *Result) (texts []string) {
	for _, f := range r.Figures {
		texts = append(texts, "| "+f.Text+" |")
	}
	return texts
}

// What cannot be played says so, and leaves nothing behind.
func TestMistakes(t *testing.T) {
	t.Parallel()
	f := func(spec Spec, want string) {
		t.Helper()
		spec.Patience, spec.Settle = time.Second, 1
		if _, err := Run(testContext(t), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %q, want %q", spec, err, want)
		}
	}
	nowhere := Pushd("ws://127.0.0.1:1/ws", "nats://127.0.0.1:1")
	f(Spec{}, `there is no scenario "", but idle, fanout,`)
	f(Spec{Scenario: "fanout", Clients: -1}, "--clients is -1, but must be at least 1")
	f(Spec{Scenario: "fanout", Payload: 10}, "--payload is 10, but must be ")
	f(Spec{Scenario: "many", TopicsPerClient: 2000}, "--topics-per-client is 2000, but must be 1 to --topics, which is 1000")
	f(Spec{Scenario: "resume", Target: Target{URL: "ws://127.0.0.1:1/{topic}"}}, "--resume-frame is empty")
	f(Spec{Scenario: "resume", Topics: 2, TopicsPerClient: 2}, "--topics-per-client is above 1")
	f(Spec{Scenario: "resume", InFlight: 1}, "--messages and --rate say what clients miss")
	f(Spec{Scenario: "fanout", Target: Target{URL: "ws://127.0.0.1:1/{topic}", Resume: "x"}}, "--resume-frame and --cursor-mark need each other")
	f(Spec{Scenario: "fanout", Target: Target{URL: "wss://127.0.0.1/"}}, "must begin with ws://")
	f(Spec{Scenario: "fanout", Target: Target{URL: "ws://127.0.0.1/"}}, "--subscribe-frame is empty, and --url has no {topic}")
	stream := Target{URL: "http://127.0.0.1:1/{topic}", Resume: "x", CursorMark: "y"}
	f(Spec{Scenario: "fanout", Target: Target{URL: "http://127.0.0.1:1/"}}, "--url begins with http://: such a client has the one topic")
	f(Spec{Scenario: "ticker", Target: stream}, "--url begins with http://: such a client has the one topic")
	f(Spec{Scenario: "churn", Target: stream}, "--url begins with http://: such a client has the one topic")
	f(Spec{Scenario: "resume", Target: stream}, "clients of Server-Sent Events do not resume here")
	f(Spec{Scenario: "fanout", Target: stream, Deflate: true}, "--deflate is an extension of WebSockets")
	f(Spec{Scenario: "fanout", Ticks: true}, "--payload is 128, but with --ticks it must be at least ")
	f(Spec{Scenario: "fanout", Target: Target{URL: "ws://{ws}/{topic}"}}, "stand for what a server prints")
	f(Spec{Scenario: "fanout", Server: Server{Start: "x", PID: 1}}, "--start and --pid exclude each other")
	f(Spec{Scenario: "fanout", Sources: []string{"localhost"}}, "--sources: ")
	f(Spec{Scenario: "fanout", Clients: 1 << 30, Workers: 1}, "--workers is 1, but 1073741824 clients need")
	self := os.Getpid()
	f(Spec{Scenario: "fanout", Nodes: []Node{{URL: "ws://127.0.0.1:1", PID: self}}}, "the process of the first server is needed")
	f(Spec{Scenario: "fanout", Server: Server{PID: self}, Nodes: []Node{{URL: "ws://127.0.0.1:1"}}}, `node "ws://127.0.0.1:1" needs a process`)
	f(Spec{Scenario: "fanout", Clients: 1, Server: Server{PID: self}, Nodes: []Node{{URL: "ws://127.0.0.1:1", PID: self}}}, "--clients is 1, but there are 2 servers")
	f(Spec{Scenario: "fanout", Workers: 3, Server: Server{PID: self}, Nodes: []Node{{URL: "ws://127.0.0.1:1", PID: self}}}, "--workers is 3, but must be a multiple of the 2 servers")
	f(Spec{Scenario: "idle", Target: nowhere}, "no connection to ws://127.0.0.1:1/ws: map[failed: connect: connection refused:")
	f(Spec{Scenario: "fanout", Target: nowhere}, "--publish nats://127.0.0.1:1: ")
	f(Spec{Scenario: "idle", Target: nowhere, Server: Server{Start: "echo went wrong; exit 3"}}, "it ended by itself\n\twent wrong")
	f(Spec{Scenario: "idle", Target: nowhere, Server: Server{PID: 1 << 30}}, "process 1073741824 does not exist")
	f(Spec{Scenario: "idle", Target: nowhere, Executable: "/bin/false"}, "worker 0")
	f(Spec{Scenario: "idle", Target: nowhere, Executable: "/none"}, "start worker 0: ")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := Pushd("ws://"+listener.Addr().String()+"/ws", "nats://127.0.0.1:1")
	f(Spec{Scenario: "idle", Target: taken, Server: Server{Start: "sleep 60"}}, "listens at "+listener.Addr().String()+" already")
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A server that hears no publication: the topics have different names.
	deaf := Pushd("ws://{ws}/", "tcp://{publish}")
	deaf.SubscribedMark, deaf.Subscribe = "", `{"type":"subscribe","topic":"other.{topic}"}`
	f(Spec{Scenario: "fanout", Clients: 2, Target: deaf, Server: Server{Start: faultyVariable + "=mute exec " + binary}},
		"2 subscriptions of 2 get nothing: do --subscribe-frame and --publish name the same topics?")
}
