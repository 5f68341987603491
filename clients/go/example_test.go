package pushd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	pushd "github.com/pushd/pushd/clients/go"
)

func Example() {
	ctx := context.Background()
	server, stop := exampleServer()
	defer stop()

	client, err := pushd.New(server, pushd.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	sub, err := client.Subscribe(ctx, "scores.>", pushd.SubscribeOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for message, err := range sub.Messages(ctx) {
		var gap *pushd.Gap
		if errors.As(err, &gap) {
			fmt.Println("something is missing:", gap.Reason)
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		var score struct{ Home, Away int }
		if err := message.Decode(&score); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %d:%d\n", message.Topic, score.Home, score.Away)
		if score.Home == 2 {
			break
		}
	}
	fmt.Println("to go on later:", sub.Cursor())
	// Output:
	// scores.final 1:0
	// something is missing: slow
	// scores.final 2:1
	// to go on later: k3.47
}

func ExampleClient_Publish() {
	ctx := context.Background()
	server, stop := exampleServer()
	defer stop()
	client, err := pushd.Dial(ctx, server, pushd.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	receipt, err := client.Publish(ctx, "orders.eu", []byte(`{"total":17}`), pushd.PublishOptions{Key: "order-17"})
	var no *pushd.Error
	switch {
	case errors.As(err, &no) && no.Code == pushd.Forbidden:
		fmt.Println("this token may not publish there")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("stored at", receipt.Cursor)
	}
	// Output: stored at k3.48
}

// A token is asked for before each connection, and when the one that was shown
// is about to end.
func ExampleOptions() {
	client, err := pushd.New("https://push.example.com", pushd.Options{
		Token: func(context.Context) (string, error) {
			token, err := os.ReadFile("/run/secrets/pushd-token")
			return string(token), err
		},
		Events: func(e pushd.Event) {
			if change, ok := e.(*pushd.StateChange); ok && change.State == pushd.Waiting {
				fmt.Println("offline:", change.Err)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client.Close()
}

// exampleServer answers each command of the examples as a pushd does.
func exampleServer() (url string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := (ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "pushd.v1.json" }}).Upgrade(conn); err != nil {
			return
		}
		say := func(text string) { _ = wsutil.WriteServerText(conn, []byte(text)) }
		say(`{"type":"welcome","protocol":1,"heartbeat":25000,"max_message":65536}`)
		for {
			command, _, err := wsutil.ReadClientData(conn)
			if err != nil {
				return
			}
			if len(command) > 20 && string(command[:20]) == `{"type":"subscribe",` {
				say(`{"type":"subscribed","id":1,"topic":"scores.>","cursor":"k3.41"}`)
				say(`{"type":"message","topic":"scores.final","cursor":"k3.42","time":1732212345678,"data":{"home":1,"away":0}}`)
				say(`{"type":"gap","topic":"scores.>","from":"k3.42","to":"k3.46","reason":"slow"}`)
				say(`{"type":"message","topic":"scores.final","cursor":"k3.47","time":1732212345679,"data":{"home":2,"away":1}}`)
				continue
			}
			say(`{"type":"published","id":1,"topic":"orders.eu","cursor":"k3.48"}`)
		}
	}()
	return "http://" + listener.Addr().String(), func() { listener.Close(); <-ended }
}
