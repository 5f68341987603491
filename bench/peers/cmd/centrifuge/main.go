// Command centrifuge is the hub on the centrifuge library, which brings its own protocol (JSON here), table of
// topics and writer for each connection. peers.json has the frames that a client sends.
package main

import (
	"context"
	"flag"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/pushd/pushd/bench/peers/hub"
)

// historyTime is how long a message is kept where there is history.
const historyTime = 5 * time.Minute

func main() {
	history := flag.Int("history", 0, "keep this many `messages` of each topic for 5 minutes, and let clients recover from them; 0 for none")
	compress := flag.Bool("compress", false, "accept permessage-deflate, and compress at level 1, each message once for all, by the library's cache of prepared messages, 1 MiB")
	ping := flag.Duration("ping", 0, "`time` between pings to a client, 25s by the library's default; 0 for none, as in the other peers")
	hub.Main(func(clients net.Listener) (hub.Publish, error) {
		node, err := centrifuge.New(centrifuge.Config{
			LogLevel:           centrifuge.LogLevelNone,
			ClientQueueMaxSize: 10 << 20, // bytes, as in the authors' benchmark server
			ClientChannelLimit: 10_000,
		})
		if err != nil {
			return nil, err
		}
		node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
			reply := centrifuge.ConnectReply{
				Credentials:       &centrifuge.Credentials{UserID: "bench"},
				ReplyWithoutQueue: true, // as in the authors' benchmark server
			}
			if len(e.Channels) > 0 { // of a stream of events, which names its topics as it connects
				reply.ReplyWithoutQueue = false // its handler writes nothing before it has read all of the request
				reply.Subscriptions = make(map[string]centrifuge.SubscribeOptions)
				for _, topic := range e.Channels {
					reply.Subscriptions[topic] = centrifuge.SubscribeOptions{}
				}
			}
			return reply, nil
		})
		node.OnConnect(func(client *centrifuge.Client) {
			client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
				answer(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: *history > 0}}, nil)
			})
		})
		if err := node.Run(); err != nil {
			return nil, err
		}
		settings := centrifuge.WebsocketConfig{
			CheckOrigin:        func(*http.Request) bool { return true },
			UseWriteBufferPool: true,
			PingPongConfig:     heartbeat(*ping),
		}
		if *compress {
			settings.Compression, settings.CompressionLevel = true, 1 // its zero is no compression
			settings.CompressionPreparedMessageCacheSize = 1 << 20    // bytes; its experimental way to compress once for all
		}
		transports := http.NewServeMux()
		transports.Handle("/", centrifuge.NewWebsocketHandler(node, settings))
		transports.Handle("/sse", centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{PingPongConfig: heartbeat(*ping)}))
		go http.Serve(clients, transports)
		var options []centrifuge.PublishOption
		if *history > 0 {
			options = append(options, centrifuge.WithHistory(*history, historyTime))
		}
		return func(topic string, payload []byte) {
			node.Publish(topic, payload, options...) // the payload has to be JSON: it is put into a JSON message as it is
		}, nil
	})
}

// heartbeat answers with pings off where every is 0, which the library spells -1.
func heartbeat(every time.Duration) centrifuge.PingPongConfig {
	if every == 0 {
		return centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1}
	}
	return centrifuge.PingPongConfig{PingInterval: every, PongTimeout: every / 2}
}
