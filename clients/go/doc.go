// Package pushd is the Go client of pushd: it keeps one WebSocket open to a
// server, with any number of subscriptions on it, and brings each of them back
// where it stopped when the connection had to be replaced.
//
//	client, err := pushd.New("https://push.example.com", pushd.Options{})
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	sub, err := client.Subscribe(ctx, "scores.>", pushd.SubscribeOptions{})
//	if err != nil {
//		return err
//	}
//	defer sub.Close()
//	for message, err := range sub.Messages(ctx) {
//		var gap *pushd.Gap
//		switch {
//		case errors.As(err, &gap): // messages are missing here; others follow
//			reload()
//		case err != nil: // the last
//			return err
//		default:
//			use(message.Topic, message.Data)
//		}
//	}
//
// # What it does by itself
//
//   - It connects again after whatever broke, with exponential backoff and full
//     jitter, or when the server advised it to; by the code of a close frame it
//     knows where that is no use, and ends ([CloseError]).
//   - Each topic is resumed from its own cursor. In a namespace with history
//     nothing is lost and nothing comes twice; where something is missing, the
//     iterator says so at its place ([Gap]).
//   - A connection on which nothing came for two heartbeats is asked for a sign
//     of life, and left where none comes.
//   - The token is asked for before each connection, and when the server says
//     that it ends; a new one is shown on the open connection.
//   - What the server could not do for now (unavailable, rate_limited) is tried
//     again, not before the time that it named.
//
// It speaks WebSockets alone. A program that is not a web page has no need of
// the fallbacks that pushd serves beside them, and whoever wants those has
// net/http.
//
// # A slow consumer
//
// Between the connection and an iterator is a buffer, of
// [SubscribeOptions].Buffer messages. When it is full the connection goes on:
// the other subscriptions notice nothing. What happens to the slow one depends
// on its namespace.
//
//   - With history, the client unsubscribes it and resumes it from its last
//     message when the consumer has emptied most of the buffer. The history
//     holds what it cannot take: it loses nothing, unless it is slower than the
//     history is long, and then a [Gap] says so. A subscription in mode latest
//     finds the newest values then. What was on its way when it was unsubscribed
//     is sent twice, so a consumer that is slow for long wants a large buffer.
//     [Paused] is told to [Options].Events.
//   - Without history there is nothing to come back to. The oldest messages of
//     the buffer make room for the newest, and a [Gap] with reason slow stands
//     where they were, with their number.
//
// # Overlapping subscriptions
//
// A client has each topic or pattern once: to subscribe to the same name again
// is [ErrSubscribed]. Different ones may overlap ("a.*" and "a.b"), and each
// subscription gets each message once. One exception is left: where Subscribe is
// given a cursor of the caller's own, what is replayed from there may repeat to
// overlapping subscriptions what they already had.
//
// # Goroutines
//
// A client has one goroutine that connects, reads and hands out, one for each
// connection that writes, and while a token is asked for, one that asks. All of
// them have ended when Close returns. All methods may be called from any
// goroutine.
package pushd
