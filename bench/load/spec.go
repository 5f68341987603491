package load

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pushd/pushd/bench/load/internal/stamp"
)

// Spec says what to run. A field that is zero has its scenario's default.
type Spec struct {
	Scenario string `json:"scenario"`       // see Scenarios
	Name     string `json:"name,omitempty"` // of the server, in tables. Default: the program that Start names, else the host of its URL
	Target   Target `json:"target"`
	Server   Server `json:"server"`
	Nodes    []Node `json:"nodes,omitempty"` // further servers, beside Target and Server; all have an equal share of the clients

	Clients         int `json:"clients,omitempty"`
	Topics          int `json:"topics,omitempty"`
	TopicsPerClient int `json:"topics_per_client,omitempty"`
	Payload         int `json:"payload,omitempty"` // bytes of a message, at least what a stamp in JSON needs. Default 128

	Ticks   bool `json:"ticks,omitempty"`   // messages are JSON as of a stock exchange and differ from each other, so that they compress as such do; else they are filled with dots
	Deflate bool `json:"deflate,omitempty"` // clients offer permessage-deflate, and fail where the server does not accept it, without context takeover

	Rate     float64       `json:"rate,omitempty"`        // messages a second
	Burst    int           `json:"burst,omitempty"`       // messages that are published together. Default 1
	InFlight int           `json:"in_flight,omitempty"`   // fanout: publish the next message when fewer than this are on their way
	Duration time.Duration `json:"duration_ns,omitempty"` // of each measured window
	Messages int           `json:"messages,omitempty"`    // end a window after this many, if that is before Duration
	Settle   time.Duration `json:"settle_ns,omitempty"`   // rest before something is measured. Default 1 s
	Patience time.Duration `json:"patience_ns,omitempty"` // how long to wait for messages that do not come. Default 5 s

	ConnectRate     float64 `json:"connect_rate,omitempty"`      // connections a second, over all workers
	ConnectInFlight int     `json:"connect_in_flight,omitempty"` // connections on their way, over all workers. Default 256
	HandshakeTime   int     `json:"handshake_time,omitempty"`    // seconds until an attempt has failed. Default 30

	SlowEvery int     `json:"slow_every,omitempty"` // slow: each client divisible by this stalls
	ChurnRate float64 `json:"churn_rate,omitempty"` // churn: changes a second

	Workers int      `json:"workers,omitempty"` // processes. Default: 2, or as many as the limit of open files demands
	Sources []string `json:"sources,omitempty"` // addresses to connect from. Default for a server on loopback: 127.0.0.2 and on

	// Command is the command line that a result shows. Default: this process's.
	Command []string `json:"-"`
	// Executable is run as worker; its main calls WorkerMain first. Default: this one.
	Executable string `json:"-"`
	// Progress is written to where it is a terminal. Default: nowhere.
	Progress io.Writer `json:"-"`

	skipWarmUp bool // for tests that count from the first message
}

// Target is a server, and how one talks to it. The zero Target is a pushd with
// its default settings.
type Target struct {
	// URL of the WebSocket, ws:// only; or http:// of a stream of Server-Sent Events. {topic} is the client's first topic, which is then subscribed
	// to by the request. {ws} stands for what a started server prints, see Server.
	URL string `json:"url"`
	// Protocol is the Sec-WebSocket-Protocol. "-" offers none.
	Protocol string `json:"protocol"`
	// Header is lines "Name: value" for the request.
	Header []string `json:"header,omitempty"`

	Hello       string `json:"hello,omitempty"`       // first message of a client
	Subscribe   string `json:"subscribe,omitempty"`   // message that subscribes to {topic}; {id} is a number from 2
	Unsubscribe string `json:"unsubscribe,omitempty"` // the opposite
	// Marks are texts that stand in the server's answers, and in nothing else that it sends. Empty: there is
	// none. Without a SubscribedMark, messages are published until all have got one.
	SubscribedMark   string `json:"subscribed_mark,omitempty"`
	UnsubscribedMark string `json:"unsubscribed_mark,omitempty"`
	GapMark          string `json:"gap_mark,omitempty"` // in what announces a loss
	Echo             string `json:"echo,omitempty"`     // a message that clients send back, as Centrifugo's ping is one: {}

	// How a client goes on from where it was, in the scenarios in which connections are lost and come back. Without
	// these, or until there was a cursor, it subscribes anew.
	Resume        string `json:"resume,omitempty"`         // message that subscribes to {topic} behind {cursor}; {id} and {epoch} are replaced too
	CursorMark    string `json:"cursor_mark,omitempty"`    // text before the cursor in messages and answers: a JSON string without its first quote, or a number
	EpochMark     string `json:"epoch_mark,omitempty"`     // the same for the epoch, where a cursor alone does not do
	RecoveredMark string `json:"recovered_mark,omitempty"` // text in the answer where nothing was lost. Empty: no answer says so

	// Publish is where messages go, as internal/publish.Config has it: nats://, http://, ws:// or tcp://.
	// {publish} stands for what a started server prints.
	Publish       string   `json:"publish"`
	PublishBody   string   `json:"publish_body,omitempty"`
	PublishHeader []string `json:"publish_header,omitempty"`

	TopicPrefix string `json:"topic_prefix,omitempty"` // topics are this and a number. Default "bench."
}

// events says whether clients have streams of Server-Sent Events.
func (t *Target) events() bool { return strings.HasPrefix(t.URL, "http://") }

// Server is the process that is measured, with its descendants. Without any
// field nothing is known of its CPU and memory.
type Server struct {
	// Start is a shell command that runs it until SIGTERM. If the server
	// prints a line
	//
	//	listening ws=HOST:PORT publish=HOST:PORT
	//
	// these are the {ws} and {publish} of Target.
	Start string `json:"start,omitempty"`
	PID   int    `json:"pid,omitempty"`    // of a server that runs already
	GCURL string `json:"gc_url,omitempty"` // fetched before its memory is read, such as http://127.0.0.1:8081/debug/pprof/heap?gc=1

	// BrokerPID is a process between publisher and servers, such as NATS, whose CPU is counted by itself.
	BrokerPID int `json:"broker_pid,omitempty"`
}

// Node is one more server of the same kind, which runs already and gets the same messages.
// What the servers use is counted together.
type Node struct {
	URL   string `json:"url"`              // as in Target
	PID   int    `json:"pid"`              // as in Server
	GCURL string `json:"gc_url,omitempty"` // as in Server
}

// Pushd returns the Target that the zero Target stands for: a pushd, and a NATS server that
// it listens to.
func Pushd(url, publish string) Target {
	return Target{
		URL: url, Protocol: "pushd.v1.json",
		Subscribe: `{"type":"subscribe","id":{id},"topic":"{topic}"}`, Unsubscribe: `{"type":"unsubscribe","id":{id},"topic":"{topic}"}`,
		SubscribedMark: `"type":"subscribed"`, UnsubscribedMark: `"type":"unsubscribed"`, GapMark: `"type":"gap"`,
		Resume:     `{"type":"subscribe","id":{id},"topic":"{topic}","cursor":"{cursor}"}`,
		CursorMark: `"cursor":"`, RecoveredMark: `"recovered":true`,
		Publish: publish, TopicPrefix: "bench.",
	}
}

// Where a pushd with its default settings is.
const (
	DefaultURL     = "ws://127.0.0.1:8080/ws"
	DefaultPublish = "nats://127.0.0.1:4222/push.{topic}"
)

// What a field is where neither the user nor the scenario says.
const (
	defaultWorkers         = 2
	defaultConnectInFlight = 256
	defaultHandshakeTime   = 30
	reservedFiles          = 64     // descriptors of a worker that are no clients
	clientsPerSource       = 10_000 // far below the ephemeral ports of an address, for those still in TIME_WAIT
)

// complete fills in the defaults, and says what cannot be.
func (s *Spec) complete(of scenario) error {
	if s.Target.URL == "" {
		s.Target = Pushd(DefaultURL, DefaultPublish)
	}
	d := of.defaults
	s.Clients = cmp.Or(s.Clients, d.Clients)
	s.Topics = cmp.Or(s.Topics, d.Topics, 1)
	s.TopicsPerClient = cmp.Or(s.TopicsPerClient, d.TopicsPerClient, 1)
	s.Payload = cmp.Or(s.Payload, d.Payload, 128)
	if s.InFlight == 0 {
		s.Rate = cmp.Or(s.Rate, d.Rate)
	}
	s.Burst = cmp.Or(s.Burst, d.Burst, 1)
	if s.Rate == 0 {
		s.InFlight = cmp.Or(s.InFlight, d.InFlight)
	}
	s.Duration = cmp.Or(s.Duration, d.Duration)
	s.Messages = cmp.Or(s.Messages, d.Messages)
	s.Settle = cmp.Or(s.Settle, d.Settle, time.Second)
	s.Patience = cmp.Or(s.Patience, d.Patience, 5*time.Second)
	s.ConnectRate = cmp.Or(s.ConnectRate, d.ConnectRate)
	s.ConnectInFlight = cmp.Or(s.ConnectInFlight, d.ConnectInFlight, defaultConnectInFlight)
	s.HandshakeTime = cmp.Or(s.HandshakeTime, defaultHandshakeTime)
	s.SlowEvery = cmp.Or(s.SlowEvery, d.SlowEvery)
	s.ChurnRate = cmp.Or(s.ChurnRate, d.ChurnRate)
	if s.Command == nil {
		s.Command = os.Args
	}
	var err error
	if s.Executable == "" {
		if s.Executable, err = os.Executable(); err != nil {
			return err
		}
	}
	if s.Name == "" {
		s.Name = s.defaultName()
	}
	if of.publishes && s.Rate == 0 && s.InFlight == 0 {
		return errors.New("--rate and --in-flight are both 0: nothing would be published")
	}
	if of.check != nil {
		if err := of.check(s); err != nil {
			return err
		}
	}
	return errors.Join(s.check(), s.divide())
}

// defaultName names the server after what is known of it.
func (s *Spec) defaultName() string {
	for word := range strings.FieldsSeq(s.Server.Start) {
		if word != "exec" && !strings.Contains(word, "=") { // nor a variable for its environment
			return filepath.Base(strings.Trim(word, `'"`))
		}
	}
	if u, err := url.Parse(s.Target.URL); err == nil {
		return u.Host
	}
	return s.Target.URL
}

// check says what makes no sense.
func (s *Spec) check() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(s.Clients < 1, "--clients is %d, but must be at least 1", s.Clients)
	bad(s.Topics < 1 || s.Topics > 1<<20, "--topics is %d, but must be 1 to 1048576", s.Topics)
	bad(s.TopicsPerClient < 1 || s.TopicsPerClient > s.Topics, "--topics-per-client is %d, but must be 1 to --topics, which is %d", s.TopicsPerClient, s.Topics)
	bad(s.Payload < stamp.MinPayload || s.Payload > 1<<20, "--payload is %d, but must be %d to 1048576 bytes", s.Payload, stamp.MinPayload)
	bad(s.Rate < 0, "--rate is %v, but must be 0 or more", s.Rate)
	bad(s.Burst < 1, "--burst is %d, but must be at least 1", s.Burst)
	bad(s.InFlight < 0, "--in-flight is %d, but must be 0 or more", s.InFlight)
	bad(s.Duration < 0 || s.Messages < 0, "--duration and --messages must be 0 or more")
	bad(s.ConnectInFlight < 1 || s.ConnectRate < 0, "--connect-in-flight must be at least 1, and --connect-rate 0 or more")
	bad(s.Server.Start != "" && s.Server.PID != 0, "--start and --pid exclude each other")
	bad(s.Server.Start == "" && s.Target.open(), "{ws} and {publish} stand for what a server prints that --start starts")
	events := s.Target.events()
	bad(!events && !strings.HasPrefix(s.Target.URL, "ws://"), "--url is %q, but must begin with ws://, or http:// for Server-Sent Events: clients speak no TLS", s.Target.URL)
	bad(events && (s.TopicsPerClient > 1 || s.ChurnRate > 0 || !strings.Contains(s.Target.URL, "{topic}")), "--url begins with http://: such a client has the one topic for which {topic} stands in it")
	bad(events && s.Deflate, "--deflate is an extension of WebSockets, but --url begins with http://")
	bad(events && len(s.Nodes) > 0, "--url begins with http://, but all nodes have WebSockets")
	bad(s.Ticks && s.Payload < stamp.MinTick, "--payload is %d, but with --ticks it must be at least %d bytes", s.Payload, stamp.MinTick)
	bad(!events && s.Target.Subscribe == "" && !strings.Contains(s.Target.URL, "{topic}"), "--subscribe-frame is empty, and --url has no {topic}: nobody would get anything")
	bad((s.Target.Resume == "") != (s.Target.CursorMark == ""), "--resume-frame and --cursor-mark need each other")
	bad(len(s.Nodes) > 0 && s.Server.PID == 0, "the process of the first server is needed where there are nodes")
	bad(s.Clients <= len(s.Nodes), "--clients is %d, but there are %d servers", s.Clients, 1+len(s.Nodes))
	for _, n := range s.Nodes {
		bad(!strings.HasPrefix(n.URL, "ws://") || n.PID == 0, "node %q needs a process, and a URL that begins with ws://", n.URL)
	}
	for _, source := range s.Sources {
		_, err := netip.ParseAddr(source)
		bad(err != nil, "--sources: %v", err)
	}
	return errors.Join(errs...)
}

// divide decides on the number of processes.
func (s *Spec) divide() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	// A Go process raises its own limit to the hard one.
	each := int(min(limit.Max, 1<<30)) - reservedFiles
	if each < 1 {
		return fmt.Errorf("a process may open %d files: raise ulimit -Hn", limit.Max)
	}
	least := (s.Clients + each - 1) / each
	servers := 1 + len(s.Nodes)
	if s.Workers == 0 { // the same number for each server, since a worker has one
		s.Workers = (max(least, defaultWorkers) + servers - 1) / servers * servers
	}
	if s.Workers%servers != 0 {
		return fmt.Errorf("--workers is %d, but must be a multiple of the %d servers", s.Workers, servers)
	}
	if s.Workers < least {
		return fmt.Errorf("--workers is %d, but %d clients need %d where a process may open %d files: raise one of them, or ulimit -Hn", s.Workers, s.Clients, least, limit.Max)
	}
	s.Workers = min(s.Workers, s.Clients/servers*servers)
	return nil
}

// sources returns the addresses to connect from: for a server on loopback as many of
// 127.0.0.0/8 as keep it from running out of ports.
func (s *Spec) sources(server netip.AddrPort) []string {
	if len(s.Sources) > 0 || !server.Addr().Unmap().Is4() || !server.Addr().IsLoopback() {
		return slices.Clone(s.Sources)
	}
	var sources []string
	address := netip.AddrFrom4([4]byte{127, 0, 0, 2})
	for range max(4, (s.Clients+clientsPerSource-1)/clientsPerSource) {
		sources = append(sources, address.String())
		address = address.Next()
	}
	return sources
}
