package load

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	WorkerMain()
	if faults, ok := os.LookupEnv(faultyVariable); ok {
		faultyMain(faults)
	}
	// With the race detector a process sleeps for a second when it exits; workers need not.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// testTimeout bounds whatever a test waits for. It is no expectation: each
// thing takes seconds on an idle machine.
const testTimeout = 2 * time.Minute

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}
