package pushd_test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// fault is what becomes of a request that a proxy does not pass on.
type fault string

const (
	refuses  fault = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nnot so"
	strips   fault = "Upgrade" // the header goes, and the request on
	isSilent fault = "silent"
	resets   fault = "reset"
)

// proxy passes connections on to an address, cuts them, and blocks requests.
type proxy struct {
	listener net.Listener
	to       string
	running  sync.WaitGroup

	mu     sync.Mutex
	blocks map[string]fault              // by the path of a request
	met    map[string]int                // how many requests each of these met
	pairs  map[*net.TCPConn]*net.TCPConn // client to server
	frozen map[net.Conn]bool
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, to: to, met: make(map[string]int), pairs: make(map[*net.TCPConn]*net.TCPConn), frozen: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		a, b := client.(*net.TCPConn), server.(*net.TCPConn)
		p.mu.Lock()
		p.pairs[a] = b
		p.mu.Unlock()
		p.running.Go(func() { p.pass(a, a, b) })
		p.running.Go(func() { p.pass(a, b, a) })
	}
}

func (p *proxy) pass(pair, from, to *net.TCPConn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		frozen := p.frozen[pair]
		p.mu.Unlock()
		bytes := buf[:n]
		if what := p.blocked(bytes); from == pair && what != "" {
			switch what {
			case resets:
				_ = pair.SetLinger(0)
				pair.Close()
			case isSilent:
				frozen = true
			case strips:
				head := strings.Replace(string(bytes), "Upgrade: ", "Unused: ", 1)
				_, _ = to.Write([]byte(head))
			default:
				_, _ = pair.Write([]byte(what))
				pair.Close()
			}
			bytes = nil
		}
		if frozen {
			_, _ = io.Copy(io.Discard, from) // into nothing, until it is cut
		} else if len(bytes) > 0 {
			_, _ = to.Write(bytes)
		}
		if err != nil || frozen {
			pair.Close()
			p.mu.Lock()
			if other := p.pairs[pair]; other != nil {
				other.Close()
				delete(p.pairs, pair)
			}
			p.mu.Unlock()
			return
		}
	}
}

// cut resets the connections that there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, b := range p.pairs {
		_ = a.SetLinger(0)
		a.Close()
		b.Close()
	}
}

// freeze lets nothing more pass on the connections that there are, and closes none.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.pairs {
		p.frozen[a] = true
	}
}

// block has requests for some paths fail from now on, and cuts what there is.
// Requests for others pass again.
func (p *proxy) block(what fault, paths ...string) {
	p.blockNew(what, paths...)
	p.cut()
}

// blockNew is block for what is yet to be requested.
func (p *proxy) blockNew(what fault, paths ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks = make(map[string]fault)
	for _, path := range paths {
		p.blocks[path] = what
	}
}

// times returns how many requests for a path were blocked.
func (p *proxy) times(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met[path]
}

// blocked returns what becomes of a request that begins so.
func (p *proxy) blocked(head []byte) fault {
	method, target, _ := strings.Cut(string(head), " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	for path, what := range p.blocks {
		if (method == "GET" || method == "POST") && strings.HasPrefix(target, path) {
			p.met[path]++
			return what
		}
	}
	return ""
}
