// Package config holds every setting of a pushd server: one definition, from
// which come the flags, the environment variables, the keys of the YAML file,
// the defaults, the help and what `pushd config` prints.
package config

import (
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Config is the settings of one server. It is a plain value: take [Default],
// change fields, use it. The tags are the definition: a setting's name is its
// flag and its key in the file, env its environment variable.
type Config struct {
	File string `name:"config" env:"PUSHD_CONFIG" placeholder:"FILE" group:"General" help:"Read settings from this YAML file. Its keys are the names of these flags, and namespaces:, default:, api_keys: and client_certificates: besides. A flag is stronger than the environment, which is stronger than the file."`
	Demo bool   `name:"demo" env:"PUSHD_DEMO" group:"General" help:"Serve demo pages at /demo/ and publish what they show: measurements of this machine once a second (topics host.NAME.METRIC), simulated prices, a match, a pulse (demo-stocks, demo-match, demo-crowd). Everybody may subscribe to these namespaces, tokens or not, unless the file has its own settings for them."`
	Open bool   `name:"open" env:"PUSHD_OPEN" group:"General" help:"Allow listening beyond loopback without authentication: whoever reaches the port may subscribe and publish."`

	NodeName string `name:"node-name" env:"PUSHD_NODE_NAME" placeholder:"NAME" group:"General" help:"Call this node so in the console and in its statistics: one token of A-Z a-z 0-9 _ -, of at most 64. No two nodes may have the same. Empty is the host's name with a random end."`

	Listen         string `name:"listen" env:"PUSHD_LISTEN" default:"127.0.0.1:8080" group:"Listeners" help:"Serve clients at this address: WebSockets, publishing over HTTP, health. Port 0 takes a free one."`
	Admin          string `name:"admin" env:"PUSHD_ADMIN" default:"127.0.0.1:8081" group:"Listeners" help:"Serve metrics, profiles, /debug and what disconnects clients at this address, which is for operators and not for clients. Port 0 takes a free one."`
	AdminTokenFile string `name:"admin-token-file" env:"PUSHD_ADMIN_TOKEN_FILE" placeholder:"FILE" group:"Listeners" help:"Answer at --admin only who sends the token in this file (Authorization: Bearer TOKEN), which has at least 32 characters; /healthz and /readyz stay open. The environment variable PUSHD_ADMIN_TOKEN may hold it instead. Needed where --admin is not on loopback."`
	AdminToken     Secret `kong:"-"` // from the environment alone; excludes AdminTokenFile
	MaxConnections int    `name:"max-connections" env:"PUSHD_MAX_CONNECTIONS" default:"0" group:"Listeners" help:"Hold at most this many clients at a time. 0 derives it from the limit of open files, with room left for everything else."`

	TLSCert       []string `name:"tls-cert" env:"PUSHD_TLS_CERT" placeholder:"FILE" group:"TLS" help:"Serve clients over TLS alone (wss:// and https://) with the certificate chain in this PEM file. Given several times, with --tls-key in the same order, the name that a client asks for decides. Files that change are read again."`
	TLSKey        []string `name:"tls-key" env:"PUSHD_TLS_KEY" placeholder:"FILE" group:"TLS" help:"Use the private key in this PEM file with --tls-cert."`
	TLSClientCA   string   `name:"tls-client-ca" env:"PUSHD_TLS_CLIENT_CA" placeholder:"FILE" group:"TLS" help:"Ask clients for a certificate of the authorities in this PEM file. One that cannot be verified ends the connection; none is needed."`
	MaxHandshakes int      `name:"max-handshakes" env:"PUSHD_MAX_HANDSHAKES" default:"512" group:"TLS" help:"Have at most this many TLS handshakes under way at a time. Further clients wait in the order of their coming, within --handshake-timeout."`

	NATS       []string `name:"nats" env:"PUSHD_NATS" placeholder:"URL" group:"NATS" help:"Join the NATS servers at these URLs. Empty runs a NATS server inside this process."`
	NATSCreds  string   `name:"nats-creds" env:"PUSHD_NATS_CREDS" placeholder:"FILE" group:"NATS" help:"Authenticate to NATS with this credentials file (JWT and seed)."`
	NATSNKey   string   `name:"nats-nkey" env:"PUSHD_NATS_NKEY" placeholder:"FILE" group:"NATS" help:"Authenticate to NATS with the NKey seed in this file."`
	NATSCA     string   `name:"nats-ca" env:"PUSHD_NATS_CA" placeholder:"FILE" group:"NATS" help:"Trust the certificate authorities in this PEM file for TLS to NATS, instead of the system's."`
	NATSCert   string   `name:"nats-cert" env:"PUSHD_NATS_CERT" placeholder:"FILE" group:"NATS" help:"Present the client certificate in this PEM file to NATS. It needs --nats-key."`
	NATSKey    string   `name:"nats-key" env:"PUSHD_NATS_KEY" placeholder:"FILE" group:"NATS" help:"Use the private key in this PEM file with --nats-cert."`
	NATSListen string   `name:"nats-listen" env:"PUSHD_NATS_LISTEN" default:"127.0.0.1:4222" group:"NATS" help:"Let publishers reach the embedded NATS server at this address. Port 0 takes a free one. Unused with --nats."`
	Store      string   `name:"store" env:"PUSHD_STORE" default:"./pushd-data" group:"NATS" help:"Keep the data of the embedded NATS server in this directory, or in memory alone, where it ends with the process. Unused with --nats."`
	Prefix     string   `name:"prefix" env:"PUSHD_PREFIX" default:"push" group:"NATS" help:"Map topic T to the NATS subject PREFIX.T, which keeps the rest of the NATS account out of reach of clients."`

	// Who may connect, and do what. The secret itself is no flag: it would show in ps.
	TokenSecret      Secret        `kong:"-"` // PUSHD_TOKEN_SECRET
	TokenSecretFile  string        `name:"token-secret-file" env:"PUSHD_TOKEN_SECRET_FILE" placeholder:"FILE" group:"Authentication" help:"Accept tokens (JWT) signed by HS256 with the secret in this file, which has 32 bytes at least. PUSHD_TOKEN_SECRET in the environment may have the secret itself."`
	TokenKeys        []string      `name:"token-key" env:"PUSHD_TOKEN_KEY" placeholder:"FILE" group:"Authentication" help:"Accept tokens signed by RS256, ES256 or EdDSA for the public keys in these files: PEM, or a JWK set."`
	JWKSURL          string        `name:"jwks-url" env:"PUSHD_JWKS_URL" placeholder:"URL" group:"Authentication" help:"Accept tokens signed for the JWK set at this https:// URL. It is fetched every 5 minutes, and when a token names a key that is new; while it is away, the keys it had hold."`
	TokenIssuer      string        `name:"token-issuer" env:"PUSHD_TOKEN_ISSUER" placeholder:"ISSUER" group:"Authentication" help:"Refuse tokens whose claim iss is not this. Empty takes any."`
	TokenAudience    string        `name:"token-audience" env:"PUSHD_TOKEN_AUDIENCE" placeholder:"AUDIENCE" group:"Authentication" help:"Refuse tokens whose claim aud is not or does not contain this. Empty takes any."`
	TokenLeeway      time.Duration `name:"token-leeway" env:"PUSHD_TOKEN_LEEWAY" default:"5s" group:"Authentication" help:"Take tokens this long before and after their time, since clocks differ."`
	AuthTimeout      time.Duration `name:"auth-timeout" env:"PUSHD_AUTH_TIMEOUT" default:"5s" group:"Authentication" help:"Close a connection that came without credentials and has not sent an auth command after this long, unless a namespace is public."`
	Authorize        string        `name:"authorize" env:"PUSHD_AUTHORIZE" placeholder:"SUBJECT" group:"Authentication" help:"Ask whoever answers requests on this NATS subject whether a client may subscribe or publish. No answer means no."`
	AuthorizeTimeout time.Duration `name:"authorize-timeout" env:"PUSHD_AUTHORIZE_TIMEOUT" default:"2s" group:"Authentication" help:"Take it for no when --authorize has not answered after this long."`

	MaxConnectionsPerIdentity int `name:"max-connections-per-identity" env:"PUSHD_MAX_CONNECTIONS_PER_IDENTITY" default:"0" group:"Authentication" help:"Refuse an identity more connections than this on one node. 0 is a tenth of all that it may have, and at least 256."`

	MaxMessage       Bytes         `name:"max-message" env:"PUSHD_MAX_MESSAGE" default:"64KiB" group:"Limits" help:"Refuse a message larger than this, from a client or a publisher (bytes, or with a unit such as KiB)."`
	ReceiveMemory    Bytes         `name:"receive-memory" env:"PUSHD_RECEIVE_MEMORY" default:"64MiB" group:"Limits" help:"Keep at most this much of messages of which only a part has come, over all clients (bytes, or with a unit such as MiB)."`
	PollMemory       Bytes         `name:"poll-memory" env:"PUSHD_POLL_MEMORY" default:"64MiB" group:"Limits" help:"Keep at most this much of answers to polls that clients do not take, over all clients. Further polls wait for room; where more than half is taken, clients that take less than 8 KiB a second are cut off."`
	MaxSubscriptions int           `name:"max-subscriptions" env:"PUSHD_MAX_SUBSCRIPTIONS" default:"1024" group:"Limits" help:"Refuse a connection more subscriptions than this, since each costs memory."`
	HandshakeTimeout time.Duration `name:"handshake-timeout" env:"PUSHD_HANDSHAKE_TIMEOUT" default:"5s" group:"Limits" help:"Close a new connection whose request is not complete after this long."`
	Heartbeat        time.Duration `name:"heartbeat" env:"PUSHD_HEARTBEAT" default:"25s" group:"Limits" help:"Ping a connection that was silent for this long, and close it when nothing comes for 10s more. Stay below the idle timeout of every proxy on the way."`
	WriteTimeout     time.Duration `name:"write-timeout" env:"PUSHD_WRITE_TIMEOUT" default:"60s" group:"Limits" help:"Close a connection whose socket takes nothing for this long while bytes wait for it."`
	ShutdownTimeout  time.Duration `name:"shutdown-timeout" env:"PUSHD_SHUTDOWN_TIMEOUT" default:"10s" group:"Limits" help:"Exit at the latest this long after SIGINT, or after the drain that SIGTERM begins, also where clients have not taken what was due to them."`
	DrainGrace       time.Duration `name:"drain-grace" env:"PUSHD_DRAIN_GRACE" default:"0s" group:"Limits" help:"On SIGTERM, or when a drain is ordered, let /readyz fail for this long before clients are told to leave, and take new ones meanwhile: load balancers need it to look away. At most an hour."`
	DrainWindow      time.Duration `name:"drain-window" env:"PUSHD_DRAIN_WINDOW" default:"30s" group:"Limits" help:"Then spread the clients' leaving over this long, so that other nodes get them a few at a time. At most an hour. A second SIGTERM, or SIGINT, ends it at once."`

	MaxConnectionsPerAddress int      `name:"max-connections-per-address" env:"PUSHD_MAX_CONNECTIONS_PER_ADDRESS" default:"0" group:"Addresses" help:"Hold at most this many connections of one address at a time (of IPv6: of one network of 64 bits). 0 is a tenth of what --max-connections comes to, at least 256; -1 any number."`
	ConnectionRatePerAddress int      `name:"connection-rate-per-address" env:"PUSHD_CONNECTION_RATE_PER_ADDRESS" default:"50" group:"Addresses" help:"Take this many new connections a second of one address, and ten seconds' worth at once. 0 takes any number."`
	HandshakeRate            int      `name:"handshake-rate" env:"PUSHD_HANDSHAKE_RATE" default:"5000" group:"Addresses" help:"Take this many handshakes a second, over all addresses, so that a crowd that comes back leaves room for those who are served: upgrades, or with TLS its own. 0 takes any number."`
	Unlimited                []string `name:"unlimited" env:"PUSHD_UNLIMITED" default:"127.0.0.0/8,::1/128" placeholder:"NETWORK" group:"Addresses" help:"Do not limit clients in these networks: neither how many and how fast they connect, nor what they send. A proxy belongs into --trust-forwarded or --proxy-protocol instead, on this machine too, else all its clients are unlimited. none is no network."`
	ProxyProtocol            []string `name:"proxy-protocol" env:"PUSHD_PROXY_PROTOCOL" placeholder:"NETWORK" group:"Addresses" help:"Expect a PROXY header (version 1 or 2) at the start of each connection from these networks, and refuse those without. From elsewhere it is not understood."`
	TrustForwarded           []string `name:"trust-forwarded" env:"PUSHD_TRUST_FORWARDED" placeholder:"NETWORK" group:"Addresses" help:"Believe proxies in these networks who their client is: the last address in X-Forwarded-For or Forwarded that is none of theirs."`
	AllowOrigin              []string `name:"allow-origin" env:"PUSHD_ALLOW_ORIGIN" placeholder:"ORIGIN" group:"Addresses" help:"Serve web pages of these origins alone: https://app.example.com, or app.example.com with http and https, *.example.com for what is below it, null, or * for all. Empty serves pages of the same host and port as the request. What sends no Origin is no browser, and not concerned."`

	MaxByteRate    Bytes `name:"max-byte-rate" env:"PUSHD_MAX_BYTE_RATE" default:"1MiB" group:"Rates" help:"Read this much a second of one connection, and four seconds' worth at once; a frame counts 256 bytes besides its own, pings too. Of one that sends more nothing is read for as long as it takes. 0 reads any amount."`
	MaxCommandRate int   `name:"max-command-rate" env:"PUSHD_MAX_COMMAND_RATE" default:"100" group:"Rates" help:"Obey this many commands a second of one connection, and ten seconds' worth at once; 16 topics in one count as a further command. 0 obeys any number."`
	MaxPublishRate int   `name:"max-publish-rate" env:"PUSHD_MAX_PUBLISH_RATE" default:"100" group:"Rates" help:"Take this many messages a second of one connection, or over HTTP of one address, and ten seconds' worth at once. Put publishers of your own into --unlimited. 0 takes any number."`

	Compression        Switch `name:"compression" env:"PUSHD_COMPRESSION" default:"on" enum:"on,off" group:"Compression" help:"Compress messages for WebSocket clients that offer permessage-deflate, once for all of them, and let them compress what they send (on); or decline every offer (off)."`
	CompressionMinSize Bytes  `name:"compression-min-size" env:"PUSHD_COMPRESSION_MIN_SIZE" default:"512" group:"Compression" help:"Send messages whose payload is smaller than this as they are, since compressing them saves little (bytes, or with a unit such as KiB)."`
	CompressionLevel   int    `name:"compression-level" env:"PUSHD_COMPRESSION_LEVEL" default:"5" group:"Compression" help:"Compress messages of up to 4 KiB at this level: 1 takes the least time, 6 leaves the fewest bytes. Larger ones are compressed at 5."`

	Shards       int    `name:"shards" env:"PUSHD_SHARDS" default:"0" group:"Tuning" help:"Spread connections over this many event loops, at most 64. 0 is one for each CPU that Go may use."`
	Workers      int    `name:"workers" env:"PUSHD_WORKERS" default:"4" group:"Tuning" help:"Run what may block on this many goroutines, beside the event loops."`
	Poller       string `name:"poller" env:"PUSHD_POLLER" default:"epoll" enum:"epoll,easygo" group:"Tuning" help:"Wait for sockets with this backend: epoll, or easygo, which costs 105 bytes more for each connection."`
	Send         string `name:"send" env:"PUSHD_SEND" default:"auto" enum:"auto,write,uring" group:"Tuning" help:"Send to many sockets at a time through io_uring (uring), or by a write for each (write). auto uses io_uring where the kernel allows it."`
	RingMessages int    `name:"ring-messages" env:"PUSHD_RING_MESSAGES" default:"16384" group:"Tuning" help:"Keep this many of the newest messages of each feed in memory. A client that falls further behind is fed from history, or gets a gap."`
	RingMemory   Bytes  `name:"ring-memory" env:"PUSHD_RING_MEMORY" default:"64MiB" group:"Tuning" help:"Keep at most this much of those messages over all feeds (bytes, or with a unit such as MiB)."`

	PresenceTopics int `name:"presence-topics" env:"PUSHD_PRESENCE_TOPICS" default:"200000" group:"Tuning" help:"Keep at most this many counts of other nodes' topics, one for each topic and node, for presence over all nodes: about 50 to 90 bytes each. 0 keeps none and tells none: presence is of this node alone then."`

	LogLevel  string `name:"log-level" env:"PUSHD_LOG_LEVEL" default:"info" enum:"debug,info,warn,error" group:"Logs" help:"Log what is at least this serious: debug, info, warn or error."`
	LogFormat string `name:"log-format" env:"PUSHD_LOG_FORMAT" default:"text" enum:"text,json" group:"Logs" help:"Write log lines in this format: text or json."`

	TraceEndpoint string  `name:"trace-endpoint" env:"PUSHD_TRACE_ENDPOINT" placeholder:"URL" group:"Traces" help:"Send OpenTelemetry traces of messages, from their publication to the sockets, to the collector at this URL (OTLP over HTTP): http://127.0.0.1:4318, where /v1/traces is meant. Empty traces nothing."`
	TraceRatio    float64 `name:"trace-ratio" env:"PUSHD_TRACE_RATIO" default:"0.001" group:"Traces" help:"Begin a trace of this part of the messages that come without a traceparent: 0.001 is one of a thousand, 0 none, 1 each."`
	TraceLimit    int     `name:"trace-limit" env:"PUSHD_TRACE_LIMIT" default:"100" group:"Traces" help:"Go on with at most this many messages a second of traces that others began and sampled, over HTTP and of NATS each. 0 goes on with none."`

	// Settings of namespaces, by the first token of a topic; from the file alone.
	Namespaces map[string]Namespace `kong:"-"`
	Default    Namespace            `kong:"-"` // of each namespace that Namespaces does not name

	// Who may do what, besides tokens; from the file alone.
	APIKeys            []APIKey     `kong:"-"`
	ClientCertificates *Permissions `kong:"-"` // of clients with a certificate; nil: nothing was said
}

// Flags is a [Config] for kong to fill, and [Load] to complete. It has no
// methods because kong would call Validate, before the file is read.
type Flags Config

// Namespace is how the topics of one namespace are served. What a namespace
// that is named leaves out has the default in the tags, whatever
// [Config.Default] says.
type Namespace struct {
	Delivery    Delivery      `name:"delivery" default:"live" enum:"live,latest,all" help:"What a subscriber gets that falls behind: all, every message; latest, the newest value of each topic; live, what is still in memory, then a gap. all and latest need history."`
	Interest    Interest      `name:"interest" default:"namespace" enum:"namespace,topic" help:"What a node takes from NATS while somebody listens: the whole namespace once, or each topic by itself, for very many topics that few hear each; then there are no wildcards."`
	BatchDelay  time.Duration `name:"batch_delay" default:"0s" help:"Gather the messages of a feed for so long, at most 1s, to send them together: latency for CPU."`
	MaxRate     float64       `name:"max_rate" default:"0" help:"Send at most this many updates a second of each topic to subscribers in mode latest, whatever they ask for. 0 is as they ask."`
	MaxMessage  Bytes         `name:"max_message" default:"0B" help:"Refuse a larger message of clients and over HTTP there. 0B is --max-message."`
	Public      Public        `name:"public" default:"none" help:"What anybody may do there without permission, once there is authentication: none, subscribe, publish or all."`
	Compression Switch        `name:"compression" default:"on" help:"off sends its messages as they are, also where --compression is on."`
	Stream      string        `name:"stream" help:"A JetStream stream that is there already, and keeps the history instead of one of pushd's own: it is never created nor changed, and has bounds of its own."`
	Subject     string        `name:"subject" help:"NATS subject below which the topics lie: topic orders.eu above is subject shop.orders.eu for subject shop.orders. Empty is PREFIX.NAMESPACE. It needs history."`
	History     History       `kong:"-"`
}

// KeepsHistory reports whether messages are kept, in a stream of pushd's own
// or in one that was there before.
func (n Namespace) KeepsHistory() bool { return n.History != (History{}) || n.Stream != "" }

// Delivery is what a subscriber that falls behind gets.
type Delivery string

// The delivery modes. DeliveryLatest and DeliveryAll need history.
const (
	DeliveryLive   Delivery = "live"   // what is still in memory, else a gap
	DeliveryLatest Delivery = "latest" // the newest value of each topic
	DeliveryAll    Delivery = "all"    // every message
)

// Switch is on or off.
type Switch string

// The values of a Switch.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// Interest is what a node subscribes to on NATS while somebody listens.
type Interest string

// The kinds of interest.
const (
	InterestNamespace Interest = "namespace" // the whole namespace once, matched locally
	InterestTopic     Interest = "topic"     // each topic by itself; no wildcards
)

// History is what a namespace keeps. The zero History keeps nothing, else one
// of the bounds is set: 0 is no bound.
type History struct {
	Age      time.Duration `name:"age" help:"Keep messages for so long, 1s to 87600h."`
	Bytes    Bytes         `name:"bytes" help:"Keep this much of the whole namespace, at least --max-message."`
	Messages int           `name:"messages" help:"Keep this many messages of each topic."`
	Replicas int           `name:"replicas" help:"Keep all of it on this many servers, 1 to 5; more than 1 needs --nats. 0 is 1."`
	Storage  Storage       `name:"storage" help:"Keep it in a file, or in memory, where it ends with the NATS server's process. Empty is file, and memory with --store memory."`
}

// Storage is where history lies.
type Storage string

// The kinds of storage.
const (
	StorageFile   Storage = "file"
	StorageMemory Storage = "memory" // ends with the NATS server's process
)

// Default returns the settings of a server that was told nothing. The
// environment has no part in it.
func Default() Config {
	var c Config
	applyDefaults(&c)
	applyDefaults(&c.Default)
	return c
}

// Namespace returns the settings of the namespace, named or not.
func (c *Config) Namespace(name string) Namespace {
	if name == ReservedNamespace {
		return reserved
	}
	if ns, ok := c.Namespaces[name]; ok {
		return ns
	}
	return c.Default
}

// StreamOf returns the name of the stream that has a namespace's history:
// push_scores, unless another was chosen.
func (c *Config) StreamOf(name string) string {
	if stream := c.Namespaces[name].Stream; stream != "" {
		return stream
	}
	return strings.ReplaceAll(c.Prefix, ".", "_") + "_" + name
}

// SubjectOf returns the NATS subject below which a namespace's topics lie.
func (c *Config) SubjectOf(name string) string {
	if subject := c.Namespaces[name].Subject; subject != "" {
		return subject
	}
	return c.Prefix + "." + name
}

// StorageOf returns where a history lies: on disk, unless it says otherwise or
// the embedded NATS server has none.
func (c *Config) StorageOf(h History) Storage {
	switch {
	case h.Storage != "":
		return h.Storage
	case c.diskless():
		return StorageMemory
	}
	return StorageFile
}

// diskless reports whether NATS is one that keeps nothing on disk.
func (c *Config) diskless() bool { return len(c.NATS) == 0 && c.Store == MemoryStore }

// settings returns the definition of each tagged field of *group, in order:
// its name, default, enumeration and text codec, bound to the field itself.
func settings(group any) []*kong.Flag {
	return kong.Must(group, kong.NoDefaultHelp()).Model.Flags
}

func applyDefaults(group any) {
	for _, s := range settings(group) {
		if !s.HasDefault {
			continue
		}
		if err := decode(s, s.Default); err != nil {
			panic("config: default of " + s.Name + ": " + err.Error()) // a test reads them all
		}
	}
}

// decode sets the field of s from text, or from a []any of texts where it is a
// list, by the rules of the command line.
func decode(s *kong.Flag, value any) error {
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: value})
	return s.Mapper.Decode(&kong.DecodeContext{Value: s.Value, Scan: scan}, s.Target)
}
