package pushd

import (
	"fmt"
	"log/slog"
	"time"
)

// State is where a client stands.
type State int

// The states of a client.
const (
	Connecting State = iota // a connection is being made, by some transport
	Open                    // the server has said welcome
	Waiting                 // for the time of the next attempt
	Closed                  // for good: by Close, or since there is no use in going on
)

func (s State) String() string {
	if s < Connecting || s > Closed {
		return "invalid"
	}
	return [...]string{"connecting", "open", "waiting", "closed"}[s]
}

// Event is what happens beside messages: one of *[StateChange], *[Gap],
// *[Skipped], *[Unsubscribed], *[Refused], *[Paused], *[Advice], *[TokenExpires]
// and *[Notice]. Its String is a line for people.
type Event interface {
	fmt.Stringer
	level() slog.Level
}

// StateChange is told for each new state.
type StateChange struct {
	State     State
	Transport Transport     // Connecting, Open: by which
	Client    string        // Open: the connection's name on the server; "" for polls, which have none
	Err       error         // Connecting: why the transport before this one could not be had; Waiting, Closed: why; nil after Close
	Wait      time.Duration // Waiting: until the next attempt
}

func (e *StateChange) String() string {
	switch {
	case e.State == Connecting && e.Err != nil:
		return fmt.Sprintf("%v; trying %s", e.Err, e.Transport)
	case e.State == Waiting:
		return fmt.Sprintf("%v; connecting again in %v", e.Err, e.Wait.Round(time.Millisecond))
	case e.Err != nil:
		return fmt.Sprintf("%v: %v", e.State, e.Err)
	}
	return e.State.String()
}

// Gap says that messages of a topic or pattern are missing, of which the server
// or this client knows. As an event it is told when it is known; as an error of
// an iterator it stands where they are missing, and messages follow it.
type Gap struct {
	Topic    string // or pattern, as subscribed
	From, To string // cursors between which they are missing; "" where there are none
	Reason   string // slow, expired, upstream or restarted; disconnected: there was no connection, and no history to make up for it
	Resumed  bool   // the server could not resume from the cursor that it was given
	Lost     int    // messages that this client dropped for want of room; 0: the server did not say how many
}

func (g *Gap) Error() string { return g.String() }

func (g *Gap) String() string {
	if g.Resumed {
		return fmt.Sprintf("%s cannot go on where it stopped: messages were lost (%s)", g.Topic, g.Reason)
	}
	return fmt.Sprintf("gap in %s: messages were lost (%s)", g.Topic, g.Reason)
}

// Skipped says that older values of a topic were left out, as mode latest has
// it. The message that replaces them has the number too.
type Skipped struct {
	Topic string
	Count int
}

func (e *Skipped) String() string {
	return fmt.Sprintf("%d older values of %s skipped", e.Count, e.Topic)
}

// Unsubscribed says that the server ended a subscription: forbidden or token_expired.
type Unsubscribed struct {
	Topic, Reason string
}

func (e *Unsubscribed) String() string {
	return fmt.Sprintf("unsubscribed from %s (%s)", e.Topic, e.Reason)
}

// Refused says that a subscription of several topics goes on without one of
// them. It is asked for again on the next connection.
type Refused struct {
	Err *Error
}

func (e *Refused) String() string { return e.Err.Error() }

// Paused says that the consumer of a subscription is behind by a whole buffer,
// or has caught up enough to be resumed. Nothing is lost by it.
type Paused struct {
	Topics []string
	Paused bool
}

func (e *Paused) String() string {
	if e.Paused {
		return fmt.Sprintf("%v: paused until its consumer has taken what waits", e.Topics)
	}
	return fmt.Sprintf("%v: resumed", e.Topics)
}

// Advice says that the server wants the client to connect again.
type Advice struct {
	After  time.Duration
	Reason string
}

func (e *Advice) String() string {
	return fmt.Sprintf("the server asks to connect again in %v (%s)", e.After.Round(time.Millisecond), e.Reason)
}

// TokenExpires says that the token ends and there is no other yet: Err is what
// Options.Token said, nil where that returned the same one again.
type TokenExpires struct {
	After time.Duration
	Err   error
}

func (e *TokenExpires) String() string {
	if e.Err != nil {
		return fmt.Sprintf("the token ends in %v: %v", e.After.Round(time.Second), e.Err)
	}
	return fmt.Sprintf("the token ends in %v, and there is no other", e.After.Round(time.Second))
}

// Notice is an error of the server that answers nothing the client waits for,
// such as its no to a new token.
type Notice struct {
	Err *Error
}

func (e *Notice) String() string { return fmt.Sprintf("the server says %v", e.Err) }

func (e *StateChange) level() slog.Level {
	if e.Err != nil {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
func (g *Gap) level() slog.Level        { return slog.LevelWarn }
func (e *Skipped) level() slog.Level    { return slog.LevelDebug }
func (*Unsubscribed) level() slog.Level { return slog.LevelWarn }
func (*Refused) level() slog.Level      { return slog.LevelWarn }
func (*Paused) level() slog.Level       { return slog.LevelInfo }
func (*Advice) level() slog.Level       { return slog.LevelInfo }
func (*TokenExpires) level() slog.Level { return slog.LevelWarn }
func (*Notice) level() slog.Level       { return slog.LevelWarn }
