// Package pushd is the Go client of pushd: it keeps a connection open to a
// server, with any number of subscriptions on it, and brings each of them back
// where it stopped when the connection had to be replaced. That is a WebSocket,
// or what gets through instead.
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
//     jitter, or when the server advised it to: after 429 or 503 with Retry-After
//     after exactly that and at most 1 s, by the same transport; by the code of a close frame it
//     knows where that is no use, and ends ([CloseError]).
//   - Each topic is resumed from its own cursor. In a namespace with history
//     nothing is lost and nothing comes twice; where something is missing, the
//     iterator says so at its place ([Gap]). Without history a connection that was
//     replaced is a gap of its own: reason disconnected.
//   - A connection on which nothing came for two heartbeats is asked for a sign
//     of life, and left where none comes ([ErrDead]).
//   - The token is asked for before each round of attempts, and when the server says
//     that it ends; a new one is shown on the open connection.
//   - What the server could not do for now (unavailable, rate_limited) is tried
//     again, not before the time that it named.
//
// # Transports
//
// Where WebSockets do not get through the client goes on by Server-Sent Events, and
// where these do not either, by polling: [Options].Transports, each of which is
// told with the state ([StateChange], [Client.Transport]). For a program all are
// the same, but for [Client.Presence], which needs a WebSocket.
//
//   - A transport gives way to the next where something refuses it, or no welcome
//     of the server comes within [Options].Timeout. One that worked before has a
//     second attempt first. A server that cannot be reached at all, that is busy (429,
//     503, with TLS also the end of a connection before its handshake) or wants another token (401) is no reason: the client comes back later.
//   - While on a lesser transport the best is tried about every
//     [Options].RetryBetter, beside what there is, and takes its place once it is open.
//   - A stream of events has heartbeats of the server, and is dead when none came for
//     a heartbeat and Timeout; a poll when it has no answer Timeout after its 25 s.
//   - Publications are requests of their own (POST /publish). A client that only
//     publishes is open once GET /healthz has any answer below 500 but 429: a proxy may
//     answer it with 404, and pass on /ws, /sse, /poll and /publish alone.
//   - A new topic has a request of its own, and the others go on; but those that it
//     overlaps are asked for again together with it, and all of them are when
//     there are more than two requests too many. That is no gap where there is history, nor
//     between polls; for events without history it is.
//   - A request that is refused for some of its topics is asked again by halves, one
//     after the other, until it is known for which. The pieces that are served
//     go on, and are asked for again as few when they are more than 16 too many.
//   - A topic that nobody wants any more may go on coming in a stream, and is
//     ignored, until that is made anew.
//   - A stream whose token is about to end is made anew with another. A poll finds
//     out by its refusal.
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
// subscription gets each message once. Two exceptions are left: where Subscribe is
// given a cursor of the caller's own, what is replayed from there may repeat to
// overlapping subscriptions what they already had; and so may the end of a fallback, of
// those that cannot be in one request: with different modes or rates, or more
// than a request's head has room for (some 100).
//
// # Goroutines
//
// A client has one goroutine that decides on connections, and for the one that there
// is one that reads and hands out and one that writes; over HTTP one for each
// request that waits for messages, beside those of net/http. While a token is
// asked for, there is one that asks. All of them have ended when Close returns, but for
// those of net/http, which end then. All methods may be called from any goroutine.
package pushd
