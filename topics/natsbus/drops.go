package natsbus

import (
	"log/slog"
	"time"
)

// dropPeriod is between two lines of the log that have the same reason.
const dropPeriod = time.Minute

// dropLog says that messages of publishers are dropped, which may be many: the first
// for each reason, and then a line each dropPeriod in which there are more. It
// belongs to one goroutine.
type dropLog struct {
	log *slog.Logger
	of  map[Drop]*droppedOf
}

type droppedOf struct {
	told     time.Time
	messages uint64 // since then
}

func newDropLog(log *slog.Logger) *dropLog {
	return &dropLog{log: log, of: make(map[Drop]*droppedOf)}
}

// add counts a message of a subject, and tells.
func (d *dropLog) add(why Drop, subject string) {
	o := d.of[why]
	if o == nil {
		o = new(droppedOf)
		d.of[why] = o
	}
	o.messages++
	if now := time.Now(); o.told.IsZero() || now.Sub(o.told) >= dropPeriod {
		d.log.Warn("messages dropped", "reason", why, "messages", o.messages, "subject", subject)
		o.told, o.messages = now, 0
	}
}
