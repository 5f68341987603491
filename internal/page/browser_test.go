package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait in these tests; nothing waits so long unless it fails.
const patience = 30 * time.Second

// browser is a headless Chromium, driven by the DevTools protocol over a pipe:
// JSON objects, each ended by a zero byte.
type browser struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser // what the browser reads
	out io.ReadCloser  // what it writes

	done chan struct{} // closed when run has ended

	mu       sync.Mutex // guards the following fields
	lastID   int
	replies  map[int]chan reply
	troubles []string // exceptions and errors that a page reported
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startBrowser starts a Chromium, and skips the test where there is none.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no Chromium to show the page to")
	}
	args := []string{
		"--headless=new", "--remote-debugging-pipe", "--user-data-dir=" + t.TempDir(),
		"--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // Chromium refuses to be sandboxed as root
	}
	itsIn, in := pipe(t)
	out, itsOut := pipe(t)
	b := &browser{t: t, in: in, out: out, done: make(chan struct{}), replies: map[int]chan reply{}}
	b.cmd = exec.Command(path, args...)
	b.cmd.ExtraFiles = []*os.File{itsIn, itsOut} // its file descriptors 3 and 4
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	itsIn.Close()
	itsOut.Close()
	go b.run()
	t.Cleanup(b.stop)
	return b
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// stop ends the browser and all its processes, and waits until they let go of
// the profile, which is a directory that is removed next.
func (b *browser) stop() {
	if err := syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		b.t.Errorf("ending the browser: %v", err)
	}
	_ = b.cmd.Wait() // it was killed
	<-b.done
}

// run hands replies to those who wait, and keeps what pages complain of.
func (b *browser) run() {
	defer close(b.done)
	messages := bufio.NewScanner(b.out)
	messages.Buffer(nil, 64<<20) // a screenshot is one
	messages.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for messages.Scan() {
		var m struct {
			reply
			ID     int
			Method string
			Params json.RawMessage
		}
		if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
			continue // nobody waits for what is no reply
		}
		b.mu.Lock()
		switch {
		case m.ID != 0:
			b.replies[m.ID] <- m.reply
			delete(b.replies, m.ID)
		case m.Method == "Runtime.exceptionThrown" || m.Method == "Log.entryAdded":
			b.troubles = append(b.troubles, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// call asks the browser, or the page of a session, and decodes its answer into result.
func (b *browser) call(session, method string, params map[string]any, result any) {
	b.t.Helper()
	if err := b.try(session, method, params, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *browser) try(session, method string, params map[string]any, result any) error {
	b.mu.Lock()
	b.lastID++
	request := map[string]any{"id": b.lastID, "method": method, "params": params}
	answer := make(chan reply, 1)
	b.replies[b.lastID] = answer
	b.mu.Unlock()
	if session != "" {
		request["sessionId"] = session
	}
	payload, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(payload, 0)); err != nil {
		return err
	}
	select {
	case r := <-answer:
		if r.Error != nil {
			return errors.New(r.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-b.done:
		return errors.New("the browser is gone")
	case <-time.After(2 * patience):
		return errors.New("no answer")
	}
}

// tab is one page in a browser.
type tab struct {
	*browser
	session string
}

func (b *browser) open(url string) *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	tb := &tab{browser: b, session: session.SessionID}
	for _, domain := range []string{"Runtime", "Log", "Page"} {
		tb.call(tb.session, domain+".enable", nil, nil)
	}
	tb.call(tb.session, "Page.navigate", map[string]any{"url": url}, nil)
	return tb
}

// want waits until a JavaScript expression is true in the page.
func (tb *tab) want(expression string) {
	tb.t.Helper()
	script := fmt.Sprintf(`(async () => {
		const end = Date.now() + %d;
		for (;;) {
			try { if (%s) return "" } catch (error) { if (Date.now() > end) return String(error) }
			if (Date.now() > end) return document.body.innerText;
			await new Promise((resolve) => setTimeout(resolve, 20));
		}
	})()`, patience.Milliseconds(), expression)
	var got struct {
		Result           struct{ Value string }
		ExceptionDetails json.RawMessage
	}
	err := tb.try(tb.session, "Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &got)
	if err != nil {
		tb.t.Fatalf("waiting for %s: %v", expression, err)
	}
	if got.Result.Value != "" || got.ExceptionDetails != nil {
		tb.t.Fatalf("%s never became true; the page says:\n%s%s", expression, got.Result.Value, got.ExceptionDetails)
	}
}

// do runs JavaScript in the page.
func (tb *tab) do(script string) {
	tb.t.Helper()
	tb.want("(() => {" + script + "; return true })()")
}

// wantNoTrouble wants that no page threw, or tried what its policy forbids.
func (b *browser) wantNoTrouble() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		b.t.Errorf("the page reported: %s", trouble)
	}
}
