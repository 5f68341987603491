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
		node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
			return centrifuge.ConnectReply{
				Credentials:       &centrifuge.Credentials{UserID: "bench"},
				ReplyWithoutQueue: true, // as in the authors' benchmark server
			}, nil
		})
		node.OnConnect(func(client *centrifuge.Client) {
			client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
				answer(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: *history > 0}}, nil)
			})
		})
		if err := node.Run(); err != nil {
			return nil, err
		}
		go http.Serve(clients, centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
			CheckOrigin:        func(*http.Request) bool { return true },
			UseWriteBufferPool: true,
			PingPongConfig:     heartbeat(*ping),
		}))
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
