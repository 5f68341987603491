package main

import (
	"time"

	"github.com/pushd/pushd/bench/load"
)

// flags is the command line. The defaults of the load are those of each scenario, and
// the defaults of the server are pushd's.
type flags struct {
	Scenario string `arg:"" help:"What to play, see above."`

	Name             string   `group:"Server" placeholder:"NAME" help:"Call the server this in tables. Default: the program that --start names, or the address."`
	URL              string   `group:"Server" default:"ws://127.0.0.1:8080/ws" help:"Connect clients here; ws:// only, or http:// of a stream of Server-Sent Events. {topic} in it is a client's first topic, for servers to which one subscribes by the URL."`
	Subprotocol      string   `group:"Server" default:"pushd.v1.json" help:"Offer this Sec-WebSocket-Protocol; - offers none."`
	Header           []string `group:"Server" sep:"none" placeholder:"LINE" help:"Add this line to each upgrade request. Repeatable."`
	HelloFrame       string   `group:"Server" placeholder:"TEXT" help:"Send this message first on each connection."`
	SubscribeFrame   string   `group:"Server" default:"{\"type\":\"subscribe\",\"id\":{id},\"topic\":\"{topic}\"}" placeholder:"TEXT" help:"Subscribe with this message, in which {topic} and {id} are replaced. Default: ${default}"`
	UnsubscribeFrame string   `group:"Server" default:"{\"type\":\"unsubscribe\",\"id\":{id},\"topic\":\"{topic}\"}" placeholder:"TEXT" help:"The same to unsubscribe."`
	SubscribedMark   string   `group:"Server" default:"\"type\":\"subscribed\"" placeholder:"TEXT" help:"A message that has this text confirms a subscription. Empty: nothing does, and messages are published until each subscription had one. Default: ${default}"`
	UnsubscribedMark string   `group:"Server" default:"\"type\":\"unsubscribed\"" placeholder:"TEXT" help:"The same for the opposite."`
	GapMark          string   `group:"Server" default:"\"type\":\"gap\"" placeholder:"TEXT" help:"A message that has this text announces a loss. Empty: the server announces none."`
	ResumeFrame      string   `group:"Server" default:"{\"type\":\"subscribe\",\"id\":{id},\"topic\":\"{topic}\",\"cursor\":\"{cursor}\"}" placeholder:"TEXT" help:"resume, storm: subscribe with this message where a cursor is known, in which {cursor} and {epoch} are replaced too. Empty: the server cannot resume. Default: ${default}"`
	CursorMark       string   `group:"Server" default:"\"cursor\":\"" placeholder:"TEXT" help:"What follows this text in messages and answers is a cursor: the rest of a JSON string, or a number. Default: ${default}"`
	EpochMark        string   `group:"Server" placeholder:"TEXT" help:"The same for an epoch, where the server wants one beside the cursor."`
	RecoveredMark    string   `group:"Server" default:"\"recovered\":true" placeholder:"TEXT" help:"The answer to a subscription with a cursor has this text where nothing was lost. Default: ${default}"`
	EchoFrame        string   `group:"Server" placeholder:"TEXT" help:"Send this message back when it comes, as the application pings of some servers want it."`

	Publish       string   `group:"Publisher" default:"nats://127.0.0.1:4222/push.{topic}" placeholder:"URL" help:"Publish to nats://HOST:PORT/SUBJECT, http://… (POST), ws://… or tcp://HOST:PORT (u32 length of the rest, u8 length of the topic, topic, payload). {topic} is replaced. Default: ${default}"`
	PublishFrame  string   `group:"Publisher" placeholder:"TEXT" help:"With http:// and ws://: send this, in which {topic} and {payload}, a JSON object, are replaced. Default: the payload."`
	PublishHeader []string `group:"Publisher" sep:"none" placeholder:"LINE" help:"With http:// and ws://: add this line to the request. Repeatable."`
	TopicPrefix   string   `group:"Publisher" default:"bench." help:"Call topics this and a number."`

	Start  string `group:"Process" placeholder:"COMMAND" help:"Start the server with this shell command, and end it with SIGTERM. If it prints 'listening ws=HOST:PORT publish=HOST:PORT', {ws} and {publish} stand for these in --url and --publish."`
	PID    int    `group:"Process" help:"The server is this process, with its descendants. Without this or --start, nothing is known of its CPU and memory."`
	Broker int    `name:"broker-pid" group:"Process" placeholder:"PID" help:"Count the CPU of this process by itself, as of a NATS server between publisher and server."`
	GCURL  string `name:"gc-url" group:"Process" placeholder:"URL" help:"Fetch this before the server's memory is read. For pushd: http://127.0.0.1:8081/debug/pprof/heap?gc=1"`

	Clients         int           `group:"Load" short:"n" help:"Connections."`
	Topics          int           `group:"Load" help:"Topics."`
	TopicsPerClient int           `group:"Load" help:"Subscriptions of each client."`
	Payload         int           `group:"Load" placeholder:"BYTES" help:"Length of a message. Default 128, in slow 1000."`
	Ticks           bool          `group:"Load" help:"Publish JSON as of a stock exchange instead of dots, which compress to nothing."`
	Deflate         bool          `group:"Load" help:"Offer permessage-deflate, without context takeover; fail where the server does not accept it."`
	Rate            float64       `group:"Load" help:"Messages a second."`
	Burst           int           `group:"Load" help:"Publish this many together."`
	InFlight        int           `group:"Load" help:"Publish the next message when fewer than this are on their way, instead of at a rate."`
	Duration        time.Duration `group:"Load" help:"Measure for this long."`
	Messages        int           `group:"Load" help:"Or for this many messages, if they are published before. resume: this many are missed."`
	Settle          time.Duration `group:"Load" help:"Rest this long before measuring."`
	Patience        time.Duration `group:"Load" help:"Wait this long for messages that do not come."`
	SlowEvery       int           `group:"Load" help:"slow: every so manieth client stalls."`
	ChurnRate       float64       `group:"Load" help:"churn: changes of topic a second."`

	Workers         int      `group:"Generator" help:"Spread clients over this many processes. Default 2, or as many as the limit of open files demands."`
	Sources         []string `group:"Generator" placeholder:"IP,…" help:"Connect from these addresses in turn. Default for a server on loopback: 127.0.0.2, .3 and so on."`
	ConnectRate     float64  `group:"Generator" help:"Open at most this many connections a second."`
	ConnectInFlight int      `group:"Generator" help:"Have at most this many connections on their way. Default 256, in storm 2000."`
	HandshakeTime   int      `group:"Generator" placeholder:"SECONDS" help:"Give up an attempt to connect after this. Default 30."`

	JSON  string `name:"json" group:"Result" placeholder:"FILE" help:"Write the whole result to this file."`
	Plot  string `group:"Result" type:"existingdir" placeholder:"DIRECTORY" help:"Draw SVG files into this directory."`
	Lossy bool   `group:"Result" help:"Exit with 0 also where messages or connections were lost."`
}

// spec is what the flags ask for.
func (f *flags) spec() load.Spec {
	return load.Spec{
		Scenario: f.Scenario, Name: f.Name,
		Target: load.Target{
			URL: f.URL, Protocol: f.Subprotocol, Header: f.Header,
			Hello: f.HelloFrame, Subscribe: f.SubscribeFrame, Unsubscribe: f.UnsubscribeFrame,
			SubscribedMark: f.SubscribedMark, UnsubscribedMark: f.UnsubscribedMark, GapMark: f.GapMark, Echo: f.EchoFrame,
			Resume: f.ResumeFrame, CursorMark: f.CursorMark, EpochMark: f.EpochMark, RecoveredMark: f.RecoveredMark,
			Publish: f.Publish, PublishBody: f.PublishFrame, PublishHeader: f.PublishHeader, TopicPrefix: f.TopicPrefix,
		},
		Server:  load.Server{Start: f.Start, PID: f.PID, GCURL: f.GCURL, BrokerPID: f.Broker},
		Clients: f.Clients, Topics: f.Topics, TopicsPerClient: f.TopicsPerClient, Payload: f.Payload, Ticks: f.Ticks, Deflate: f.Deflate,
		Rate: f.Rate, Burst: f.Burst, InFlight: f.InFlight,
		Duration: f.Duration, Messages: f.Messages, Settle: f.Settle, Patience: f.Patience,
		ConnectRate: f.ConnectRate, ConnectInFlight: f.ConnectInFlight, HandshakeTime: f.HandshakeTime,
		SlowEvery: f.SlowEvery, ChurnRate: f.ChurnRate,
		Workers: f.Workers, Sources: f.Sources,
	}
}
