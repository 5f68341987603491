package peers_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// peer is an entry of peers.json, and the process that was started by it. README.md says what the fields mean.
type peer struct {
	Name    string
	Library string
	Command []string
	Target  struct {
		URL, Protocol, Hello, Subscribe, Unsubscribe, Echo, Publish string
		SubscribedMark                                              string `json:"subscribed_mark"`
		UnsubscribedMark                                            string `json:"unsubscribed_mark"`
		Resume                                                      string
		CursorMark                                                  string `json:"cursor_mark"`
		EpochMark                                                   string `json:"epoch_mark"`
		RecoveredMark                                               string `json:"recovered_mark"`
	}
	Message struct{ Before, After, Separator string }
	Events  struct {
		URL            string
		SubscribedMark string `json:"subscribed_mark"`
		Publish        string
	}
	History  []string
	Compress []string
	GC       bool

	ws, publish string // the URLs of Target, filled in with what it printed
}

var binaries string // the folder into which TestMain has built the peers

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if binaries, err = os.MkdirTemp("", "peers"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(binaries)
		if out, err := exec.Command("./build.sh", binaries).CombinedOutput(); err != nil {
			panic(fmt.Sprintf("build.sh: %v\n%s", err, out))
		}
		return m.Run()
	}())
}

// peers are those of peers.json, and the floor in Go.
func peers(t *testing.T) []peer {
	t.Helper()
	file, err := os.Open("peers.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []peer
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&all); err != nil {
		t.Fatalf("peers.json: %v", err)
	}
	inGo := all[0] // the floor
	inGo.Name, inGo.Command = "floor-go", []string{"{bin}/floor-go"}
	return append(all, inGo)
}

func each(t *testing.T, test func(t *testing.T, p *peer)) {
	for _, p := range peers(t) {
		t.Run(p.Name, func(t *testing.T) {
			p.start(t)
			test(t, &p)
		})
	}
}

// start runs the peer until the end of the test, when SIGTERM has to end it.
func (p *peer) start(t *testing.T, more ...string) {
	t.Helper()
	process := exec.Command(strings.ReplaceAll(p.Command[0], "{bin}", binaries), append(p.Command[1:len(p.Command):len(p.Command)], more...)...)
	process.Stderr = t.Output()
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Signal(syscall.SIGTERM)
		slow := time.AfterFunc(patience, func() {
			t.Errorf("%s: still there %v after SIGTERM", p.Name, patience)
			process.Process.Kill()
		})
		err := process.Wait()
		slow.Stop()
		if status := process.ProcessState.Sys().(syscall.WaitStatus); err != nil && status.Signal() != syscall.SIGTERM {
			t.Errorf("%s: end: %v", p.Name, err) // as of a program that was built with -race and has found one
		}
	})
	var ws, publish string
	if _, err := fmt.Fscanf(stdout, "listening ws=%s publish=%s\n", &ws, &publish); err != nil {
		t.Fatalf("%s: first line: %v", p.Name, err)
	}
	p.ws = strings.ReplaceAll(p.Target.URL, "{ws}", ws)
	p.publish = strings.ReplaceAll(p.Target.Publish, "{publish}", publish)
}

// publisher opens a connection to the publish port.
func (p *peer) publisher(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.publish, "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func publication(topic, payload string) []byte {
	frame := binary.BigEndian.AppendUint32(nil, uint32(1+len(topic)+len(payload)))
	frame = append(frame, byte(len(topic)))
	return append(append(frame, topic...), payload...)
}

func send(t *testing.T, conn net.Conn, publications ...[]byte) {
	t.Helper()
	conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := conn.Write(bytes.Join(publications, nil)); err != nil {
		t.Fatal(err)
	}
}

func numbered(topic string, from, to int) (publications [][]byte) {
	for i := from; i < to; i++ {
		publications = append(publications, publication(topic, payload(topic, i)))
	}
	return publications
}

func payload(topic string, i int) string { return fmt.Sprintf(`{"topic":%q,"n":%d}`, topic, i) }

// wantNumbered fails unless c gets these messages of topic next, all and in order.
func (c *client) wantNumbered(topic string, from, to int) {
	c.t.Helper()
	for i := from; i < to; i++ {
		if got, want := c.message(topic), payload(topic, i); got != want {
			c.t.Fatalf("%s: got %q, want %q", c.peer.Name, got, want)
		}
	}
}

func TestEachSubscriberGetsEachMessageInOrder(t *testing.T) {
	each(t, func(t *testing.T, p *peer) {
		var a, b, both []*client
		for range 4 {
			c := p.dial(t, 1)
			c.subscribe("a")
			a = append(a, c)
		}
		for range 2 {
			c := p.dial(t, 1)
			c.subscribe("b.c")
			b = append(b, c)
		}
		c := p.dial(t, 1)
		c.subscribe("b.c")
		c.subscribe("only.here")
		both = append(both, c)

		// From one publisher in bursts that fit any queue of the peers; of what nobody is subscribed to, nothing comes.
		in := p.publisher(t)
		const burst = 50
		for from := 0; from < 4*burst; from += burst {
			send(t, in, numbered("nobody", from, from+burst)...)
			send(t, in, numbered("a", from, from+burst)...)
			send(t, in, numbered("b.c", from, from+burst)...)
			for _, c := range a {
				c.wantNumbered("a", from, from+burst)
			}
			for _, c := range append(b, both...) {
				c.wantNumbered("b.c", from, from+burst)
			}
		}
		send(t, in, numbered("only.here", 0, 1)...)
		both[0].wantNumbered("only.here", 0, 1)
	})
}

func TestSubscriptionEndsWithItsConnection(t *testing.T) {
	each(t, func(t *testing.T, p *peer) {
		in := p.publisher(t)
		stays, says, drops := p.dial(t, 1), p.dial(t, 1), p.dial(t, 1)
		for _, c := range []*client{stays, says, drops} {
			c.subscribe("a")
		}
		send(t, in, numbered("a", 0, 3)...)
		for _, c := range []*client{stays, says, drops} {
			c.wantNumbered("a", 0, 3)
		}

		const opClose = 8
		says.write(maskedFrame(opClose, "\x03\xe8"), 1)
		drops.conn.(*net.TCPConn).SetLinger(0)
		drops.conn.Close()
		// Those who come next get the descriptors that are free now, and must not inherit a subscription with them.
		var next []*client
		for range 3 {
			c := p.dial(t, 1)
			c.subscribe("b")
			next = append(next, c)
		}
		send(t, in, numbered("a", 3, 6)...)
		send(t, in, numbered("b", 0, 3)...)
		stays.wantNumbered("a", 3, 6)
		for _, c := range next {
			c.wantNumbered("b", 0, 3)
		}
	})
}

func TestUnsubscribe(t *testing.T) {
	each(t, func(t *testing.T, p *peer) {
		in := p.publisher(t)
		stays, leaves := p.dial(t, 1), p.dial(t, 1)
		stays.subscribe("a")
		leaves.subscribe("a")
		leaves.subscribe("b")
		leaves.unsubscribe("a")
		send(t, in, numbered("a", 0, 3)...)
		send(t, in, numbered("b", 0, 1)...)
		stays.wantNumbered("a", 0, 3)
		leaves.wantNumbered("b", 0, 1) // and none of a before
	})
}

func TestPayloadOfEachFrameLength(t *testing.T) {
	each(t, func(t *testing.T, p *peer) {
		in := p.publisher(t)
		c := p.dial(t, 1)
		c.subscribe("a")
		for _, size := range []int{2, 125, 126, 65535, 65536, 300_000} {
			want := `"` + strings.Repeat("x", size-2) + `"` // a JSON text, for peers that take no other
			send(t, in, publication("a", want))
			if got := c.message("a"); got != want {
				t.Fatalf("payload of %d bytes: got %d, %.40q", size, len(got), got)
			}
		}
	})
}

func TestInputInPieces(t *testing.T) {
	each(t, func(t *testing.T, p *peer) {
		c := p.dial(t, 5)
		topic := strings.Repeat("long.", 30) + "topic" // a frame with a longer header
		c.command(p.Target.Subscribe, p.Target.SubscribedMark, topic, 7)
		in := p.publisher(t)
		for _, octet := range publication(topic, payload(topic, 0)) {
			send(t, in, []byte{octet})
		}
		c.wantNumbered(topic, 0, 1)
	})
}

// The floor is let off: it waits for whoever does not read.
func TestOneWhoDoesNotReadDoesNotStopTheOthers(t *testing.T) {
	const messages, size = 1500, 32 << 10 // far more than the buffers of a socket hold
	each(t, func(t *testing.T, p *peer) {
		if strings.HasPrefix(p.Name, "floor") {
			t.Skip("one thread, blocking sockets")
		}
		in := p.publisher(t)
		stalls, reads := p.dial(t, 1), p.dial(t, 1)
		stalls.subscribe("a")
		reads.subscribe("a")
		want := `"` + strings.Repeat("x", size) + `"`
		for range messages {
			send(t, in, publication("a", want))
			if reads.message("a") != want {
				t.Fatal("a message is not what was published")
			}
		}
	})
}

func TestManyTopics(t *testing.T) {
	const topics, subscribers = 50, 2
	each(t, func(t *testing.T, p *peer) {
		in := p.publisher(t)
		clients := make([][]*client, topics)
		name := func(i int) string { return fmt.Sprintf("topic.%d", i) }
		for i := range clients {
			for range subscribers {
				c := p.dial(t, 1)
				c.subscribe(name(i))
				clients[i] = append(clients[i], c)
			}
		}
		for i := range clients {
			send(t, in, numbered(name(i), 0, 4)...)
		}
		for i := range clients {
			for _, c := range clients[i] {
				c.wantNumbered(name(i), 0, 4)
			}
		}
	})
}

func TestFloorWritesBatches(t *testing.T) {
	for _, p := range peers(t) {
		if !strings.HasPrefix(p.Name, "floor") {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			p.start(t, "-batch", "4")
			in := p.publisher(t)
			c := p.dial(t, 1)
			c.subscribe("a")
			send(t, in, numbered("a", 0, 4)...)
			c.wantNumbered("a", 0, 1)
			// One write is one read of a client that has room for it.
			if got, want := c.in.Buffered(), 3*(2+len(payload("a", 0))); got != want {
				t.Errorf("%d bytes came with the first of four messages, want %d", got, want)
			}
			c.wantNumbered("a", 1, 4)
			send(t, in, numbered("a", 4, 6)...) // less than a batch, and not lost
			c.wantNumbered("a", 4, 6)
		})
	}
}

func TestCollectsGarbageWhenAsked(t *testing.T) {
	for _, p := range peers(t) {
		if !p.GC {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			free, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := free.Addr().String()
			free.Close()
			p.start(t, "-gc", address)
			response, err := http.Get("http://" + address)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("status %d, want %d", response.StatusCode, http.StatusOK)
			}
		})
	}
}

// A client of centrifuge has to answer its pings, which are messages.
func TestCentrifugePings(t *testing.T) {
	for _, p := range peers(t) {
		if p.Name != "centrifuge" {
			continue
		}
		p.start(t, "-ping", "1s")
		c := p.dial(t, 1)
		for range 2 {
			if got := c.next(); got != p.Target.Echo {
				t.Fatalf("got %q, want %q", got, p.Target.Echo)
			}
			const opText = 1
			c.write(maskedFrame(opText, p.Target.Echo), 1)
		}
	}
}

// A client of centrifuge that comes back with its position gets what it missed, with the answer.
func TestCentrifugeRecovers(t *testing.T) {
	for _, p := range peers(t) {
		if len(p.History) == 0 {
			continue
		}
		p.start(t, p.History...)
		in := p.publisher(t)
		leaves := p.dial(t, 1)
		leaves.command(p.Target.Subscribe, p.Target.SubscribedMark, "a", 1)
		send(t, in, numbered("a", 0, 3)...)
		var last string
		for range 3 {
			last = leaves.next()
		}
		answer := leaves.answer // to subscribe
		leaves.conn.Close()
		send(t, in, numbered("a", 3, 6)...)
		stays := p.dial(t, 1)
		stays.command(strings.NewReplacer(
			"{cursor}", behind(t, last, p.Target.CursorMark), "{epoch}", behind(t, answer, p.Target.EpochMark),
		).Replace(p.Target.Resume), p.Target.SubscribedMark, "a", 1)
		got := stays.answer
		if !strings.Contains(got, p.Target.RecoveredMark) || strings.Contains(got, payload("a", 2)) {
			t.Errorf("answer %q", got)
		}
		for i := 3; i < 6; i++ {
			if !strings.Contains(got, payload("a", i)) {
				t.Errorf("the answer lacks %q: %q", payload("a", i), got)
			}
		}
		_, after, _ := strings.Cut(got, payload("a", 5))
		if !strings.HasPrefix(after, ","+p.Target.CursorMark+"6}") { // and behind it there is the cursor that was asked for
			t.Errorf("the cursor of the last message does not follow it: %q", got)
		}
	}
}

// behind returns what follows the last of a mark.
func behind(t *testing.T, text, mark string) string {
	t.Helper()
	at := strings.LastIndex(text, mark)
	if at < 0 {
		t.Fatalf("no %q in %q", mark, text)
	}
	value := text[at+len(mark):]
	return value[:strings.IndexAny(value, `",}`)]
}

func TestRefusesWrongFlags(t *testing.T) {
	for _, p := range peers(t) {
		t.Run(p.Name, func(t *testing.T) {
			program := filepath.Join(binaries, filepath.Base(p.Command[0]))
			out, err := exec.Command(program, "-listen", "nowhere").CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("-listen")) {
				t.Errorf("-listen nowhere: error %v, output %q, want one that names the flag", err, out)
			}
		})
	}
}
